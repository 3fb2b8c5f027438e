"""Who did better than the first arm, and by how much: every further arm's difference from it, best first.

Rule: a difference is paired over seeds, at the last generation that both arms have finished.
"""

import math
from typing import TYPE_CHECKING

from tailkeep.metrics import Interval
from tailkeep.report.drawing import COLOURS, HAIR, INK, MUTED, SMALL, WIDTH, Drawing, canvas, label, name_axis
from tailkeep.report.pairing import measured_difference
from tailkeep.report.reading import Group
from tailkeep.report.vocabulary import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FEWEST = 5
_ROW_HEIGHT, _HEAD_HEIGHT = 0.2, 0.85

Rows = list[tuple[str, Interval]]


def leaderboard(group: Group, metric: str, name: str) -> Drawing | None:
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
        build=lambda: _build(title, rows, higher=better == "higher"),
    )


def ranked(group: Group, metric: str, *, higher: bool) -> Rows:
    """Each further arm with its difference from the first, the best first; arms without one are left out."""
    found = (measured_difference(group, arm, metric) for arm in group.compared)
    rows = [(one.arm, one.level) for one in found if one is not None and math.isfinite(one.level.mean)]
    return sorted(rows, key=lambda row: row[1].mean, reverse=higher)


def _build(title: str, rows: Rows, *, higher: bool) -> "Figure":
    figure, (panel,) = canvas(title, width=1.6 * WIDTH, height=_HEAD_HEIGHT + _ROW_HEIGHT * len(rows))
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
