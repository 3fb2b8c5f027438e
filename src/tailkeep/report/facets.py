"""A metric over the generations where arms cross choices: a panel for each circumstance, a line for each level.

Rule: all panels share their axes, and a level has the same pen in each.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tailkeep.report.curves import Line, draw_line, notes_of
from tailkeep.report.drawing import HAIR, SMALL, Drawing, canvas, label, name_axis, pen
from tailkeep.report.reading import Group, circumstances
from tailkeep.report.vocabulary import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 4
_PANEL_WIDTH, _PANEL_HEIGHT, _HEAD = 1.75, 1.35, 0.6

Panels = Mapping[str, Mapping[str, Line]]
"""The line of each level, by circumstance."""


def facets(group: Group, grid: Mapping[str, Sequence[str]], metric: str, name: str) -> Drawing | None:
    """The curves of `metric` over a grid of at least two axes; None where no arm of it has a finite value."""
    if len(grid) < 2:
        return None
    axis, levels = list(grid.items())[-1]
    found: dict[str, dict[str, Line]] = {}
    for circumstance, arms in circumstances(grid).items():
        lines = {level: Line(group.of(arm), metric) for level, arm in arms.items()}
        found[circumstance] = {level: line for level, line in lines.items() if math.isfinite(line.end)}
    if not any(found.values()):
        return None
    known = describe(metric)
    seeds = max(len({entry.seed for entry in group.of(arm)}) for arm in group.arms)
    ends = "; ".join(
        f"{place}, {level} ends at {line.end:.4g}" for place, lines in found.items() for level, line in lines.items()
    )
    return Drawing(
        name=name,
        title=f"{known.title} by {axis}",
        caption=" ".join(filter(None, notes_of(group, metric, seeds))),
        alt=f"{known.title} over the generations: {ends}.",
        build=lambda: _build(f"{known.title} by {axis}", found, levels),
    )


def _build(title: str, panels: Panels, levels: Sequence[str]) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = canvas(
        title, rows=rows, columns=columns, width=_PANEL_WIDTH * columns, height=_HEAD + _PANEL_HEIGHT * rows
    )
    pens = {level: pen(place) for place, level in enumerate(levels)}
    for panel, (place, lines) in zip(axes, panels.items(), strict=False):
        panel.set_title(label(place, 26), fontsize=SMALL, loc="left")
        panel.grid(axis="y", color=HAIR, linewidth=0.5)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        for level, line in lines.items():
            draw_line(panel, line, pens[level], shade=0.45 / len(levels))
    for panel in axes[1 : len(panels)]:
        panel.sharex(axes[0])
        panel.sharey(axes[0])
    for panel in axes[len(panels) :]:
        panel.set_visible(False)
    for number, panel in enumerate(axes):
        name_axis(panel, x="generation" if number + columns >= len(panels) else "")
    handles = [
        axes[0].plot([], [], color=p.colour, linestyle=p.dash, marker=p.marker, markersize=4)[0] for p in pens.values()
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
