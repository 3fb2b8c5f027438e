"""Where a choice helps: differences between the levels of a grid's last axis, circumstance by circumstance.

Rule: a difference is paired over seeds, at the last generation that both arms have finished, and one whose 95 %
interval holds 0 is written as such.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailkeep.metrics import Interval, mean_interval
from tailkeep.report.drawing import COLOURS, INK, SMALL, WIDTH, Drawing, canvas, label
from tailkeep.report.reading import Group, circumstances
from tailkeep.report.vocabulary import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FAINT, _FULL = 0.06, 0.75
_ROW_HEIGHT, _HEAD_HEIGHT = 0.21, 0.75


@dataclass(frozen=True)
class Field:
    """What the level `column` changes in the circumstance `row`, and whether for the better."""

    row: int
    column: int
    difference: Interval
    better: bool

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.difference.low > 0 or self.difference.high < 0


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
        arms = [group.series(arm, metric) for arm in names.values()]
        for column, arm in enumerate(arms[1:]):
            if differences := paired(arm, arms[0]):
                interval = mean_interval(differences)
                fields.append(Field(row, column, interval, sign * interval.mean > 0))
    if not fields:
        return None
    return Map(levels[0], tuple(rows), tuple(levels[1:]), tuple(fields))


def paired(ours: Mapping[int, Mapping[int, float]], base: Mapping[int, Mapping[int, float]]) -> list[float]:
    """For each seed of both, by how much ours is above the base at the last generation that every seed of both has."""
    seeds = sorted(ours.keys() & base.keys())
    shared = [ours[seed].keys() & base[seed].keys() for seed in seeds]
    generations = set.intersection(*map(set, shared)) if shared else set()
    if not generations:
        return []
    last = max(generations)
    return [ours[seed][last] - base[seed][last] for seed in seeds]


def choice_map(group: Group, grid: Mapping[str, Sequence[str]], metric: str, name: str) -> Drawing | None:
    """The map of `metric` as a figure."""
    found = map_of(group, grid, metric)
    if found is None:
        return None
    title = f"{describe(metric).title}: change by {list(grid)[-1]}"
    told = "; ".join(
        f"{found.rows[f.row]}, {found.columns[f.column]}: {f.difference.mean:+.3g}{'' if f.is_sure else ' (unsure)'}"
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
    largest = max((abs(f.difference.mean) for f in found.fields if math.isfinite(f.difference.mean)), default=0.0)
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

    share = abs(field.difference.mean) / largest if largest > 0 else 0.0
    colour = COLOURS[0 if field.better else 1][0]
    place = (field.column - 0.48, field.row - 0.46)
    panel.add_patch(Rectangle(place, 0.96, 0.92, color=colour, alpha=_FAINT + (_FULL - _FAINT) * share, linewidth=0))
    panel.text(
        field.column,
        field.row,
        f"{field.difference.mean:+.3f}" if field.is_sure else f"({field.difference.mean:+.3f})",
        ha="center",
        va="center",
        fontsize=SMALL,
        color=INK,
        fontweight="bold" if field.is_sure else "normal",
    )
