"""Curves of a metric over the generations: one panel with a line per arm, or over a grid a panel per setting.

Rule: a line is the mean over seeds and has a point only where every seed has a finite value. All panels of a grid share
their axes and their line styles.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tailkeep.report.lab.run import ArmGroup, Entry, settings_of
from tailkeep.report.lab.stats import failure_rules
from tailkeep.report.metric_catalog import bounds_of, companion_of, describe
from tailkeep.report.svg import (
    HAIR,
    MUTED,
    SMALL,
    Drawing,
    LineStyle,
    canvas,
    label,
    label_axes,
    label_ends,
    nth_line_style,
    set_decimal_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_MARKERS = 12
_COLUMNS = 4
_PANEL_WIDTH, _PANEL_HEIGHT, _HEAD = 1.75, 1.35, 0.6


class Line:
    """The mean over seeds of one arm, and its band, by generation. Values are NaN where a seed lacks one."""

    def __init__(self, entries: tuple[Entry, ...], metric: str) -> None:
        by_generation: dict[int, list[Entry]] = {}
        for entry in entries:
            by_generation.setdefault(entry.generation, []).append(entry)
        seeds = len({entry.seed for entry in entries})
        complete = {g: rows for g, rows in sorted(by_generation.items()) if len(rows) == seeds}
        self.generations = list(complete)
        self.mean = [_mean(rows, metric) for rows in complete.values()]
        bounds = bounds_of(metric)
        if bounds and all(name in entry.metrics for entry in entries for name in bounds):
            self.low = [_mean(rows, bounds[0]) for rows in complete.values()]
            self.high = [_mean(rows, bounds[1]) for rows in complete.values()]
        else:
            values = [_values(rows, metric) for rows in complete.values()]
            self.low = [min(some, default=math.nan) for some in values]
            self.high = [max(some, default=math.nan) for some in values]

    @property
    def end(self) -> float:
        """The last finite value, NaN if there is none."""
        return next((value for value in reversed(self.mean) if math.isfinite(value)), math.nan)


def plot_curve(group: ArmGroup, metric: str, line_styles: "Mapping[str, LineStyle]", name: str) -> Drawing | None:
    """The curves of `metric`, one line per arm; None where no arm has a finite value."""
    lines = {arm: Line(group.entries_of(arm), metric) for arm in group.arms}
    lines = {arm: line for arm, line in lines.items() if math.isfinite(line.end)}
    if not lines:
        return None
    known = describe(metric)
    seeds = max(len({entry.seed for entry in group.entries_of(arm)}) for arm in group.arms)
    ends = "; ".join(f"{arm} ends at {line.end:.4g}" for arm, line in lines.items())
    return Drawing(
        name=name,
        title=known.title,
        caption=" ".join(filter(None, notes_of(group, metric, seeds))),
        alt=f"{known.title} over the generations: {ends}.",
        build=lambda: _build_curves(group, metric, lines, line_styles),
    )


def _build_curves(
    group: ArmGroup, metric: str, lines: "Mapping[str, Line]", line_styles: "Mapping[str, LineStyle]"
) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    known = describe(metric)
    figure, (panel,) = canvas(known.title)
    panel.grid(axis="y", color=HAIR, linewidth=0.5)
    for arm, line in lines.items():
        # Many bands over each other would hide the lines.
        draw_line(panel, line, line_styles[arm], shade=min(0.14, 0.45 / len(lines)))
        _draw_theory(panel, Line(group.entries_of(arm), _theory(metric)), line_styles[arm])
    if known.log and all(v > 0 for line in lines.values() for v in (*line.mean, *line.low) if math.isfinite(v)):
        panel.set_yscale("log")
        set_decimal_ticks(panel)
    for limit in _limits(group, metric):
        panel.axhline(limit, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if len(group.generations()) == 1:
        panel.set_xticks(group.generations())
    panel.margins(x=0.02)
    label_axes(panel, x="generation")
    panel.tick_params(axis="y", which="both", length=0)
    panel.spines["left"].set_visible(False)
    label_ends(panel, [(line.end, arm, line_styles[arm].colour) for arm, line in lines.items()])
    return figure


def draw_line(panel: "Axes", line: Line, line_style: LineStyle, *, shade: float) -> None:
    """A line with its band."""
    panel.fill_between(line.generations, line.low, line.high, color=line_style.colour, alpha=shade, linewidth=0)
    panel.plot(
        line.generations,
        line.mean,
        color=line_style.colour,
        linestyle=line_style.dash,
        linewidth=1.6,
        marker=line_style.marker,
        markersize=4,
        markeredgewidth=0,
        markevery=max(1, math.ceil(len(line.generations) / _MAX_MARKERS)),
    )


def _draw_theory(panel: "Axes", line: Line, line_style: LineStyle) -> None:
    if math.isfinite(line.end):
        panel.plot(
            line.generations, line.mean, color=line_style.colour, linestyle=(0, (1, 1.5)), linewidth=1.1, zorder=1.5
        )


def _theory(metric: str) -> str:
    companion = companion_of(metric)
    return companion[0] if companion else ""


def _band_note(metric: str, group: ArmGroup, seeds: int) -> str:
    bounds = bounds_of(metric)
    if bounds and set(bounds) <= group.names:
        of_items = metric.startswith("downstream.")
        return f"Band: {'95 % CI over items' if of_items else 'the middle 80 % of the chains'}."
    return f"Line: mean of {seeds} seeds; band: lowest to highest seed." if seeds > 1 else "One seed, so no band."


def notes_of(group: ArmGroup, metric: str, seeds: int) -> list[str]:
    """The parts of the caption of `metric`, some of them empty."""
    known = describe(metric)
    limit = "Dotted: the failure limit." if _limits(group, metric) else ""
    better = f"{known.better.capitalize()} is better." if known.better else ""
    companion = companion_of(metric)
    beside = companion is not None and companion[0] in group.names
    theory = f"Fine dots, without markers: {companion[1]}." if companion and beside else ""
    return [known.note, _band_note(metric, group, seeds), theory, limit, better]


def _limits(group: ArmGroup, metric: str) -> list[float]:
    """The fixed failure limits of `metric`; one relative to generation 0 differs by seed and is not drawn."""
    return [rule.limit for rule in failure_rules(group.names) if rule.metric == metric and rule.reference is None]


def _mean(entries: list[Entry], metric: str) -> float:
    values = _values(entries, metric)
    return sum(values) / len(values) if values else math.nan


def _values(entries: list[Entry], metric: str) -> list[float]:
    """The value of every entry; empty if one of them is not finite."""
    values = [entry.metrics.get(metric, math.nan) for entry in entries]
    return values if all(map(math.isfinite, values)) else []


Panels = Mapping[str, Mapping[str, Line]]
"""The line of each level, by setting."""


def plot_facets(group: ArmGroup, grid: Mapping[str, Sequence[str]], metric: str, name: str) -> Drawing | None:
    """The curves of `metric` over a grid of at least two axes; None where no arm of it has a finite value."""
    if len(grid) < 2:
        return None
    axis, levels = list(grid.items())[-1]
    panels: dict[str, dict[str, Line]] = {}
    for setting, arms in settings_of(grid).items():
        lines = {level: Line(group.entries_of(arm), metric) for level, arm in arms.items()}
        panels[setting] = {level: line for level, line in lines.items() if math.isfinite(line.end)}
    if not any(panels.values()):
        return None
    known = describe(metric)
    seeds = max(len({entry.seed for entry in group.entries_of(arm)}) for arm in group.arms)
    ends = "; ".join(
        f"{setting}, {level} ends at {line.end:.4g}"
        for setting, lines in panels.items()
        for level, line in lines.items()
    )
    return Drawing(
        name=name,
        title=f"{known.title} by {axis}",
        caption=" ".join(filter(None, notes_of(group, metric, seeds))),
        alt=f"{known.title} over the generations: {ends}.",
        build=lambda: _build_facets(f"{known.title} by {axis}", panels, levels),
    )


def _build_facets(title: str, panels: Panels, levels: Sequence[str]) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = canvas(
        title, rows=rows, columns=columns, width=_PANEL_WIDTH * columns, height=_HEAD + _PANEL_HEIGHT * rows
    )
    line_styles = {level: nth_line_style(index) for index, level in enumerate(levels)}
    for panel, (setting, lines) in zip(axes, panels.items(), strict=False):
        panel.set_title(label(setting, 26), fontsize=SMALL, loc="left")
        panel.grid(axis="y", color=HAIR, linewidth=0.5)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        for level, line in lines.items():
            draw_line(panel, line, line_styles[level], shade=0.45 / len(levels))
    for panel in axes[1 : len(panels)]:
        panel.sharex(axes[0])
        panel.sharey(axes[0])
    for panel in axes[len(panels) :]:
        panel.set_visible(False)
    for index, panel in enumerate(axes):
        label_axes(panel, x="generation" if index + columns >= len(panels) else "")
    handles = [
        axes[0].plot([], [], color=s.colour, linestyle=s.dash, marker=s.marker, markersize=4)[0]
        for s in line_styles.values()
    ]
    figure.legend(
        handles,
        [label(level) for level in levels],
        loc="outside upper right",
        ncols=len(levels),
        frameon=False,
        fontsize=SMALL,
    )
    return figure
