"""Where a choice helps: differences between the levels of a grid's last axis, circumstance by circumstance.

Rule: a difference is paired over seeds, see `pairing`, and one whose 95 % interval holds 0 is written as such.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailkeep.report import numbers
from tailkeep.report.drawing import COLOURS, INK, SMALL, WIDTH, Drawing, canvas, label
from tailkeep.report.pairing import Difference, measured_difference
from tailkeep.report.reading import Group, circumstances
from tailkeep.report.vocabulary import describe, headline_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FAINT, _FULL = 0.06, 0.75
_ROW_HEIGHT, _HEAD_HEIGHT = 0.21, 0.75
_TOLD, _LISTED = 2, 6


@dataclass(frozen=True)
class Field:
    """What the level `column` changes in the circumstance `row`, and whether for the better."""

    row: int
    column: int
    difference: Difference
    better: bool


@dataclass(frozen=True)
class Map:
    """All fields of one metric; `rows` are the circumstances, `columns` the levels compared with `reference`."""

    reference: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    fields: tuple[Field, ...]


def map_of(group: Group, grid: Mapping[str, Sequence[str]], metric: str) -> Map | None:
    """The map of `metric` over a grid of at least two axes; None where no two arms of a row have it."""
    better = describe(metric).better
    if len(grid) < 2 or better is None:
        return None
    rows = circumstances(grid)
    levels = list(grid.values())[-1]
    sign = 1 if better == "higher" else -1
    fields = []
    for row, names in enumerate(rows.values()):
        for column, arm in enumerate(list(names.values())[1:]):
            if found := measured_difference(group, arm, metric):
                fields.append(Field(row, column, found, sign * found.level.mean > 0))
    if not fields:
        return None
    return Map(levels[0], tuple(rows), tuple(levels[1:]), tuple(fields))


def findings(group: Group, grid: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """What the maps of the first comparable metrics say, a sentence each; nothing without a grid of two axes."""
    told = [name for name in headline_names(group.names) if describe(name).better][:_TOLD]
    maps = ((name, map_of(group, grid, name)) for name in told)
    return tuple(_finding(describe(name).title, found) for name, found in maps if found is not None)


def _finding(title: str, found: Map) -> str:
    sure = sorted((f for f in found.fields if f.difference.is_sure), key=lambda f: -abs(f.difference.level.mean))
    lead = f"{title}, each choice against {found.reference} in the same circumstance, paired by seed"
    if not sure:
        return f"{lead}: none of {len(found.fields)} differences leaves 0 out of its interval."
    parts = []
    for word, fields in (("better", [f for f in sure if f.better]), ("worse", [f for f in sure if not f.better])):
        if fields:
            shown = [_shown(found, f) for f in fields[:_LISTED]]
            more = f" and {len(fields) - _LISTED} more" if len(fields) > _LISTED else ""
            parts.append(f"{word} in {len(fields)} of {len(found.fields)}: {', '.join(shown)}{more}")
    return f"{lead}, is {'; '.join(parts)}. In the others the interval holds 0."


def _shown(found: Map, field: Field) -> str:
    change = numbers.mean(field.difference.level, signed=True)
    return f"{found.columns[field.column]} with {found.rows[field.row]} ({change})"


def choice_map(group: Group, grid: Mapping[str, Sequence[str]], metric: str, name: str) -> Drawing | None:
    """The map of `metric` as a figure."""
    found = map_of(group, grid, metric)
    if found is None:
        return None
    title = f"{describe(metric).title}: change by {list(grid)[-1]}"
    told = "; ".join(
        f"{found.rows[f.row]}, {found.columns[f.column]}: {f.difference.level.mean:+.3g}"
        f"{'' if f.difference.is_sure else ' (unsure)'}"
        for f in found.fields
    )
    return Drawing(
        name=name,
        title=title,
        caption=(
            f"Change of {describe(metric).title.lower()} against {found.reference}, paired over seeds, at the last "
            "generation. Blue: better; orange: worse; the fuller, the larger. Bold: the 95 % interval leaves 0 out; "
            "in brackets: it does not."
        ),
        alt=f"{title}, against {found.reference}. {told}.",
        build=lambda: _build(title, found),
    )


def _build(title: str, found: Map) -> "Figure":
    height = _HEAD_HEIGHT + _ROW_HEIGHT * len(found.rows)
    figure, (panel,) = canvas(title, width=1.6 * WIDTH, height=height)
    sizes = [abs(f.difference.level.mean) for f in found.fields if math.isfinite(f.difference.level.mean)]
    largest = max(sizes, default=0.0)
    for field in found.fields:
        _draw(panel, field, largest)
    panel.set_xlim(-0.5, len(found.columns) - 0.5)
    panel.set_ylim(len(found.rows) - 0.5, -0.5)
    panel.set_xticks(range(len(found.columns)), [label(name) for name in found.columns])
    panel.set_yticks(range(len(found.rows)), [label(name, 40) for name in found.rows])
    panel.xaxis.tick_top()
    panel.tick_params(length=0, colors=INK)
    for spine in panel.spines.values():
        spine.set_visible(False)
    return figure


def _draw(panel: "Axes", field: Field, largest: float) -> None:
    from matplotlib.patches import Rectangle

    mean, is_sure = field.difference.level.mean, field.difference.is_sure
    share = abs(mean) / largest if largest > 0 and math.isfinite(mean) else 0.0
    colour = COLOURS[0 if field.better else 1][0]
    place = (field.column - 0.48, field.row - 0.46)
    panel.add_patch(Rectangle(place, 0.96, 0.92, color=colour, alpha=_FAINT + (_FULL - _FAINT) * share, linewidth=0))
    written = f"{mean:+.3f}" if math.isfinite(mean) else numbers.DASH
    panel.text(
        field.column,
        field.row,
        written if is_sure else f"({written})",
        ha="center",
        va="center",
        fontsize=SMALL,
        color=INK,
        fontweight="bold" if is_sure else "normal",
    )
