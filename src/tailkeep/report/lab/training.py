"""The figure of training: loss, kept share, learning rate and speed within each generation, a line per arm.

Rule: a line is the mean over seeds of one generation's curve, drawn from that generation's mark to the next one's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.svg import HAIR, Drawing, LineStyle, canvas, label_axes, label_ends
from tailkeep.runs.training_curve import TABLE, read_speeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = NDArray[np.float64]
_PANELS = {
    "cross_entropy": "cross-entropy, nats/token",
    "kept_fraction": "kept share",
    "learning_rate": "learning rate",
    "tokens_per_second": "tokens/s",
}


@dataclass(frozen=True)
class TrainingLine:
    """The curve of one generation: `positions` in generations, and the mean over seeds of each column there."""

    positions: Points
    columns: Mapping[str, Points]


def plot_training(group: ArmGroup, line_styles: Mapping[str, LineStyle], name: str) -> Drawing | None:
    """The curves of all arms; None where no arm has kept one."""
    lines = {arm: training_lines(group.entries_of(arm)) for arm in group.arms}
    lines = {arm: of_arm for arm, of_arm in lines.items() if of_arm}
    if not lines:
        return None
    panels = [column for column in _PANELS if _is_shown(column, lines)]
    ends = "; ".join(f"{arm} ends at {of_arm[-1].columns['cross_entropy'][-1]:.4g}" for arm, of_arm in lines.items())
    return Drawing(
        name=name,
        title="Training",
        caption="Within each generation, from its first reading to its last: "
        + ", ".join(_PANELS[column] for column in panels)
        + ". Means over the steps between two readings, and over seeds.",
        alt=f"Cross-entropy in training over the generations: {ends}.",
        build=lambda: _build(panels, lines, line_styles),
    )


def training_lines(entries: Sequence[Entry]) -> list[TrainingLine]:
    """The curves of one arm by generation; of an ecosystem all members count alike."""
    by_generation = groupby(sorted(entries, key=lambda entry: entry.generation), key=lambda entry: entry.generation)
    curves = [(generation, [one for entry in some for one in _curves_of(entry)]) for generation, some in by_generation]
    return [_mean_line(generation, of_one) for generation, of_one in curves if of_one]


def _curves_of(entry: Entry) -> list[dict[str, Points]]:
    speeds = read_speeds(entry.directory)
    return [
        {key: np.asarray(column, np.float64) for key, column in {**table, "tokens_per_second": speeds.get(name)}.items()
         if column is not None}
        for name, table in entry.tables.items()
        if name.partition(".")[0] == TABLE
    ]  # fmt: skip


def _mean_line(generation: int, curves: Sequence[Mapping[str, Points]]) -> TrainingLine:
    """The mean of `curves` at the places of the first one, as shares of the training."""
    shares = [curve["step"] / curve["step"][-1] for curve in curves]
    columns = {
        column: np.mean(
            [np.interp(shares[0], share, curve[column]) for share, curve in zip(shares, curves, strict=True)], axis=0
        )
        for column in _PANELS
        if all(column in curve for curve in curves)
    }
    return TrainingLine(generation + shares[0], columns)


def _is_shown(column: str, lines: Mapping[str, Sequence[TrainingLine]]) -> bool:
    """Whether a panel of `column` tells anything: not a share of 1 throughout, nor a constant rate."""
    values = [line.columns.get(column) for of_arm in lines.values() for line in of_arm]
    present = np.concatenate([value for value in values if value is not None] or [np.zeros(0)])
    if column == "kept_fraction":
        return bool((present < 1).any())
    if column == "learning_rate":
        return len(np.unique(present)) > 1
    return len(present) > 0


def _build(
    panels: Sequence[str], lines: Mapping[str, Sequence[TrainingLine]], line_styles: Mapping[str, LineStyle]
) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = canvas("Training", rows=rows, columns=columns, width=3.6 * columns, height=2.1 * rows + 0.4)
    for panel, column in zip(axes, panels, strict=False):
        panel.grid(axis="y", color=HAIR, linewidth=0.5)
        for arm, of_arm in lines.items():
            style = line_styles[arm]
            for line in of_arm:
                if column in line.columns:
                    values = line.columns[column]
                    panel.plot(line.positions, values, color=style.colour, linestyle=style.dash, linewidth=1.1)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        panel.margins(x=0.02)
        label_axes(panel, x="generation", y=_PANELS[column])
        panel.spines["left"].set_visible(False)
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    first = [(float(of_arm[-1].columns[panels[0]][-1]), arm, line_styles[arm].colour) for arm, of_arm in lines.items()]
    label_ends(axes[0], first)
    return figure
