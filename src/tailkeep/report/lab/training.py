"""The figures of training: loss, kept share, learning rate and speed within each generation, a line per arm.

Rule: a line is the mean over seeds of one generation's curve, drawn from that generation's mark to the next one's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from tailkeep.report import formatting
from tailkeep.report.charts import Axis, Series, line_chart
from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.svg import Figure, UniqueNames
from tailkeep.runs.training_curve import TABLE, read_speeds

Points = NDArray[np.float64]
_PANELS = {
    "cross_entropy": ("Cross-entropy in training", "nats/token"),
    "kept_fraction": ("Share of tokens that the loss keeps", "share"),
    "learning_rate": ("Learning rate", ""),
    "tokens_per_second": ("Speed of training", "tokens/s"),
}
"""column -> title and unit."""


@dataclass(frozen=True)
class TrainingLine:
    """The curve of one generation: `positions` in generations, and the mean over seeds of each column there."""

    positions: Points
    columns: Mapping[str, Points]


def plot_training(group: ArmGroup, arms: Sequence[str], names: UniqueNames) -> tuple[Figure, ...]:
    """A figure for each column that tells something, with the curves of `arms`; none where no arm has kept one."""
    lines = {arm: training_lines(group.entries_of(arm)) for arm in arms}
    lines = {arm: of_arm for arm, of_arm in lines.items() if of_arm}
    if not lines:
        return ()
    return tuple(
        _plot(group, column, lines, names.new(group.learner, "training", column))
        for column in _PANELS
        if _is_shown(column, lines)
    )


def _plot(group: ArmGroup, column: str, lines: Mapping[str, Sequence[TrainingLine]], name: str) -> Figure:
    series = [_series(group, arm, column, of_arm) for arm, of_arm in lines.items() if column in of_arm[-1].columns]
    ends = "; ".join(f"{one.label} ends at {one.end}" for one in series)
    title, unit = _PANELS[column]
    note = "Within each generation, from its first reading to its last: means over the steps between, and over seeds."
    finding = f"{title} over the generations: {ends}."
    return line_chart(name, title, series, Axis(unit), note=note, finding=finding, height=300, plain=True)


def _series(group: ArmGroup, arm: str, column: str, of_arm: Sequence[TrainingLine]) -> Series:
    """One line with a gap between two generations."""
    present = [line for line in of_arm if column in line.columns]
    xs = [x for line in present for x in (*line.positions, line.positions[-1])]
    means = [y for line in present for y in (*line.columns[column], math.nan)]
    nothing = [math.nan] * len(xs)
    end = formatting.short(float(present[-1].columns[column][-1]))
    return Series(arm, group.roles[arm], xs, means, nothing, nothing, end)


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
