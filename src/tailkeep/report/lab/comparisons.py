"""Where a choice helps: differences between the levels of a grid's last axis, circumstance by circumstance.

Rule: a difference is paired over seeds, see `pairing`, and one whose 95 % interval holds 0 is written as such.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailkeep.metrics import Interval
from tailkeep.report import formatting
from tailkeep.report.lab.paired_differences import Difference, measured_difference
from tailkeep.report.lab.run import ArmGroup, settings_of
from tailkeep.report.metric_catalog import describe, headline_names
from tailkeep.report.svg import COLOURS, HAIR, INK, MUTED, SMALL, WIDTH, Drawing, canvas, label, name_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
if TYPE_CHECKING:
    from matplotlib.figure import Figure


_FAINT, _FULL = 0.06, 0.75
_MAP_ROW_HEIGHT, _MAP_HEAD_HEIGHT = 0.21, 0.75
_TOLD, _LISTED = 2, 6


@dataclass(frozen=True)
class EffectCell:
    """What the level `column` changes in the circumstance `row`, and whether for the better."""

    row: int
    column: int
    difference: Difference
    better: bool


@dataclass(frozen=True)
class EffectMap:
    """All fields of one metric; `rows` are the circumstances, `columns` the levels compared with `reference`."""

    reference: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    fields: tuple[EffectCell, ...]


def effect_map(group: ArmGroup, grid: Mapping[str, Sequence[str]], metric: str) -> EffectMap | None:
    """The map of `metric` over a grid of at least two axes; None where no two arms of a row have it."""
    better = describe(metric).better
    if len(grid) < 2 or better is None:
        return None
    rows = settings_of(grid)
    levels = list(grid.values())[-1]
    sign = 1 if better == "higher" else -1
    fields = []
    for row, names in enumerate(rows.values()):
        for column, arm in enumerate(list(names.values())[1:]):
            if found := measured_difference(group, arm, metric):
                fields.append(EffectCell(row, column, found, sign * found.level.mean > 0))
    if not fields:
        return None
    return EffectMap(levels[0], tuple(rows), tuple(levels[1:]), tuple(fields))


def findings(group: ArmGroup, grid: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """What the maps of the first comparable metrics say, a sentence each; nothing without a grid of two axes."""
    told = [name for name in headline_names(group.names) if describe(name).better][:_TOLD]
    maps = ((name, effect_map(group, grid, name)) for name in told)
    return tuple(_finding(describe(name).title, found) for name, found in maps if found is not None)


def _finding(title: str, found: EffectMap) -> str:
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


def _shown(found: EffectMap, field: EffectCell) -> str:
    change = formatting.mean(field.difference.level, signed=True)
    return f"{found.columns[field.column]} with {found.rows[field.row]} ({change})"


def choice_map(group: ArmGroup, grid: Mapping[str, Sequence[str]], metric: str, name: str) -> Drawing | None:
    """The map of `metric` as a figure."""
    found = effect_map(group, grid, metric)
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
        build=lambda: _build_map(title, found),
    )


def _build_map(title: str, found: EffectMap) -> "Figure":
    height = _MAP_HEAD_HEIGHT + _MAP_ROW_HEIGHT * len(found.rows)
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


def _draw(panel: "Axes", field: EffectCell, largest: float) -> None:
    from matplotlib.patches import Rectangle

    mean, is_sure = field.difference.level.mean, field.difference.is_sure
    share = abs(mean) / largest if largest > 0 and math.isfinite(mean) else 0.0
    colour = COLOURS[0 if field.better else 1][0]
    place = (field.column - 0.48, field.row - 0.46)
    panel.add_patch(Rectangle(place, 0.96, 0.92, color=colour, alpha=_FAINT + (_FULL - _FAINT) * share, linewidth=0))
    written = f"{mean:+.3f}" if math.isfinite(mean) else formatting.DASH
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


# Who did better than the first arm, and by how much: every further arm's difference from it, best first.
#
# Rule: a difference is paired over seeds, at the last generation that both arms have finished.


_FEWEST = 5
_BOARD_ROW_HEIGHT, _BOARD_HEAD_HEIGHT = 0.2, 0.85

Rows = list[tuple[str, Interval]]


def leaderboard(group: ArmGroup, metric: str, name: str) -> Drawing | None:
    """The leaderboard of `metric`; None with fewer than five arms, one seed, or a metric without a better direction."""
    better = describe(metric).better
    if better is None or len(group.arms) < _FEWEST:
        return None
    rows = ranked(group, metric, higher=better == "higher")
    if not any(math.isfinite(interval.low) for _, interval in rows):
        return None
    title = f"{describe(metric).title}: against {group.arms[0]}"
    return Drawing(
        name=name,
        title=title,
        caption=(
            f"{describe(metric).title} less that of {group.arms[0]}, paired over seeds, with its 95 % interval, at the "
            "last generation; the best above. Blue: surely better; orange: surely worse; grey: the interval holds 0."
        ),
        alt=f"{title}. " + "; ".join(f"{arm}: {i.mean:+.3g} ({i.low:+.3g} to {i.high:+.3g})" for arm, i in rows) + ".",
        build=lambda: _build_leaderboard(title, rows, higher=better == "higher"),
    )


def ranked(group: ArmGroup, metric: str, *, higher: bool) -> Rows:
    """Each further arm with its difference from the first, the best first; arms without one are left out."""
    found = (measured_difference(group, arm, metric) for arm in group.compared)
    rows = [(one.arm, one.level) for one in found if one is not None and math.isfinite(one.level.mean)]
    return sorted(rows, key=lambda row: row[1].mean, reverse=higher)


def _build_leaderboard(title: str, rows: Rows, *, higher: bool) -> "Figure":
    figure, (panel,) = canvas(title, width=1.6 * WIDTH, height=_BOARD_HEAD_HEIGHT + _BOARD_ROW_HEIGHT * len(rows))
    panel.axvline(0, color=INK, linewidth=0.8)
    panel.grid(axis="x", color=HAIR, linewidth=0.5)
    for place, (_, interval) in enumerate(rows):
        colour = _colour(interval, higher=higher)
        if math.isfinite(interval.low):
            panel.plot([interval.low, interval.high], [place, place], color=colour, linewidth=1.6)
        panel.plot([interval.mean], [place], color=colour, marker="o", markersize=4.5, markeredgewidth=0)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_yticks(range(len(rows)), [label(arm, 32) for arm, _ in rows])
    panel.tick_params(axis="y", length=0, colors=INK, labelsize=SMALL)
    panel.spines["left"].set_visible(False)
    name_axis(panel, x="worse ← → better" if higher else "better ← → worse")
    return figure


def _colour(interval: Interval, *, higher: bool) -> str:
    if not (interval.low > 0 or interval.high < 0):
        return MUTED
    return COLOURS[0 if (interval.mean > 0) == higher else 1][0]
