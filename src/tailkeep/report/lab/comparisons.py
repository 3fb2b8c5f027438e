"""Arms against their baselines: a map of effects over a grid, and a leaderboard without one.

Rule: a difference is paired over seeds at the last common generation. Where its 95 % CI includes 0 it is shown as not
significant.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailkeep.metrics import Interval
from tailkeep.report import formatting
from tailkeep.report.lab.paired_differences import Difference, paired_difference
from tailkeep.report.lab.run import ArmGroup, settings_of
from tailkeep.report.metric_catalog import describe, headline_names
from tailkeep.report.svg import COLOURS, HAIR, INK, MUTED, SMALL, WIDTH, Drawing, canvas, label, label_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_FAINT, _FULL = 0.06, 0.75
_MAP_ROW_HEIGHT, _MAP_HEAD_HEIGHT = 0.21, 0.75
_MAX_METRICS, _MAX_LISTED = 2, 6


@dataclass(frozen=True)
class EffectCell:
    """The difference of the level `column` from the reference level in the setting `row`; `better` is its direction."""

    row: int
    column: int
    difference: Difference
    better: bool


@dataclass(frozen=True)
class EffectMap:
    """The differences in one metric: `rows` are settings, `columns` the levels compared with the level `reference`."""

    reference: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[EffectCell, ...]


def effect_map(group: ArmGroup, grid: Mapping[str, Sequence[str]], metric: str) -> EffectMap | None:
    """The map of `metric` over a grid of at least two axes; None where no two arms of a row have it."""
    better = describe(metric).better
    if len(grid) < 2 or better is None:
        return None
    rows = settings_of(grid)
    levels = list(grid.values())[-1]
    sign = 1 if better == "higher" else -1
    cells = []
    for row, arms in enumerate(rows.values()):
        for column, arm in enumerate(list(arms.values())[1:]):
            if difference := paired_difference(group, arm, metric):
                cells.append(EffectCell(row, column, difference, sign * difference.final.mean > 0))
    if not cells:
        return None
    return EffectMap(levels[0], tuple(rows), tuple(levels[1:]), tuple(cells))


def effect_sentences(group: ArmGroup, grid: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A sentence for the map of each of the first comparable metrics; empty without a grid of two axes."""
    names = [name for name in headline_names(group.names) if describe(name).better][:_MAX_METRICS]
    maps = ((name, effect_map(group, grid, name)) for name in names)
    return tuple(_effect_sentence(describe(name).title, effects) for name, effects in maps if effects is not None)


def _effect_sentence(title: str, effects: EffectMap) -> str:
    total = len(effects.cells)
    significant = [cell for cell in effects.cells if cell.difference.is_significant]
    significant.sort(key=lambda cell: -abs(cell.difference.final.mean))
    lead = f"{title}, each level minus {effects.reference} in the same setting, paired by seed"
    if not significant:
        return f"{lead}: no significant difference (0 of {total} 95 % CIs exclude 0)."
    parts = []
    for word, better in (("better", True), ("worse", False)):
        if cells := [cell for cell in significant if cell.better is better]:
            listed = ", ".join(_cell_text(effects, cell) for cell in cells[:_MAX_LISTED])
            more = f" and {len(cells) - _MAX_LISTED} more" if len(cells) > _MAX_LISTED else ""
            parts.append(f"significantly {word} in {len(cells)} of {total}: {listed}{more}")
    return f"{lead}, is {'; '.join(parts)}. In the others the 95 % CI includes 0."


def _cell_text(effects: EffectMap, cell: EffectCell) -> str:
    change = formatting.mean(cell.difference.final, signed=True)
    return f"{effects.columns[cell.column]} with {effects.rows[cell.row]} ({change})"


def plot_effect_map(group: ArmGroup, grid: Mapping[str, Sequence[str]], metric: str, name: str) -> Drawing | None:
    """The map of `metric` as a figure; None where there is none."""
    effects = effect_map(group, grid, metric)
    if effects is None:
        return None
    title = f"{describe(metric).title}: change by {list(grid)[-1]}"
    changes = "; ".join(
        f"{effects.rows[cell.row]}, {effects.columns[cell.column]}: {cell.difference.final.mean:+.3g}"
        f"{'' if cell.difference.is_significant else ' (not significant)'}"
        for cell in effects.cells
    )
    return Drawing(
        name=name,
        title=title,
        caption=(
            f"{describe(metric).title} minus that of {effects.reference} in the same setting, paired over seeds, at "
            "the last generation. Blue: better; orange: worse; the darker, the larger. Bold: the 95 % CI excludes 0; "
            "in brackets: it includes 0."
        ),
        alt=f"{title}, minus {effects.reference}. {changes}.",
        build=lambda: _build_map(title, effects),
    )


def _build_map(title: str, effects: EffectMap) -> "Figure":
    height = _MAP_HEAD_HEIGHT + _MAP_ROW_HEIGHT * len(effects.rows)
    figure, (panel,) = canvas(title, width=1.6 * WIDTH, height=height)
    sizes = [abs(cell.difference.final.mean) for cell in effects.cells if math.isfinite(cell.difference.final.mean)]
    largest = max(sizes, default=0.0)
    for cell in effects.cells:
        _draw_cell(panel, cell, largest)
    panel.set_xlim(-0.5, len(effects.columns) - 0.5)
    panel.set_ylim(len(effects.rows) - 0.5, -0.5)
    panel.set_xticks(range(len(effects.columns)), [label(name) for name in effects.columns])
    panel.set_yticks(range(len(effects.rows)), [label(name, 40) for name in effects.rows])
    panel.xaxis.tick_top()
    panel.tick_params(length=0, colors=INK)
    for spine in panel.spines.values():
        spine.set_visible(False)
    return figure


def _draw_cell(panel: "Axes", cell: EffectCell, largest: float) -> None:
    from matplotlib.patches import Rectangle

    mean, is_significant = cell.difference.final.mean, cell.difference.is_significant
    share = abs(mean) / largest if largest > 0 and math.isfinite(mean) else 0.0
    colour = COLOURS[0 if cell.better else 1][0]
    corner = (cell.column - 0.48, cell.row - 0.46)
    panel.add_patch(Rectangle(corner, 0.96, 0.92, color=colour, alpha=_FAINT + (_FULL - _FAINT) * share, linewidth=0))
    text = f"{mean:+.3f}" if math.isfinite(mean) else formatting.DASH
    panel.text(
        cell.column,
        cell.row,
        text if is_significant else f"({text})",
        ha="center",
        va="center",
        fontsize=SMALL,
        color=INK,
        fontweight="bold" if is_significant else "normal",
    )


_MIN_ARMS = 5
_BOARD_ROW_HEIGHT, _BOARD_HEAD_HEIGHT = 0.2, 0.85

ArmDifferences = list[tuple[str, Interval]]


def plot_leaderboard(group: ArmGroup, metric: str, name: str) -> Drawing | None:
    """The leaderboard of `metric`; None with fewer than five arms, one seed, or a metric without a better direction."""
    better = describe(metric).better
    if better is None or len(group.arms) < _MIN_ARMS:
        return None
    rows = rank_arms(group, metric, higher=better == "higher")
    if not any(math.isfinite(interval.low) for _, interval in rows):
        return None
    title = f"{describe(metric).title}: minus {group.arms[0]}"
    return Drawing(
        name=name,
        title=title,
        caption=(
            f"{describe(metric).title} minus that of {group.arms[0]}, paired over seeds, with its 95 % CI, at the last "
            "generation; the best on top. Blue: significantly better; orange: significantly worse; grey: the 95 % CI "
            "includes 0."
        ),
        alt=f"{title}. " + "; ".join(f"{arm}: {i.mean:+.3g} ({i.low:+.3g} to {i.high:+.3g})" for arm, i in rows) + ".",
        build=lambda: _build_leaderboard(title, rows, higher=better == "higher"),
    )


def rank_arms(group: ArmGroup, metric: str, *, higher: bool) -> ArmDifferences:
    """Each further arm with its difference from the first, the best first; without the arms that have none."""
    differences = (paired_difference(group, arm, metric) for arm in group.compared_arms)
    rows = [(one.arm, one.final) for one in differences if one is not None and math.isfinite(one.final.mean)]
    return sorted(rows, key=lambda row: row[1].mean, reverse=higher)


def _build_leaderboard(title: str, rows: ArmDifferences, *, higher: bool) -> "Figure":
    figure, (panel,) = canvas(title, width=1.6 * WIDTH, height=_BOARD_HEAD_HEIGHT + _BOARD_ROW_HEIGHT * len(rows))
    panel.axvline(0, color=INK, linewidth=0.8)
    panel.grid(axis="x", color=HAIR, linewidth=0.5)
    for row, (_, interval) in enumerate(rows):
        colour = _colour(interval, higher=higher)
        if math.isfinite(interval.low):
            panel.plot([interval.low, interval.high], [row, row], color=colour, linewidth=1.6)
        panel.plot([interval.mean], [row], color=colour, marker="o", markersize=4.5, markeredgewidth=0)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_yticks(range(len(rows)), [label(arm, 32) for arm, _ in rows])
    panel.tick_params(axis="y", length=0, colors=INK, labelsize=SMALL)
    panel.spines["left"].set_visible(False)
    label_axes(panel, x="worse ← → better" if higher else "better ← → worse")
    return figure


def _colour(interval: Interval, *, higher: bool) -> str:
    if not (interval.low > 0 or interval.high < 0):
        return MUTED
    return COLOURS[0 if (interval.mean > 0) == higher else 1][0]
