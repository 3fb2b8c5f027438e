"""Curves over the generations: a metric, time to failure, and training within each generation, a line per arm.

Rules: a line is the mean over seeds and its band their 95 % CI, with a point only where every seed of the arm has a
finite value. A time to failure that was not reached by the last generation is an arrow, never a number. A training
curve runs from its generation's mark to the next one's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray

from tailkeep.metrics import Interval
from tailkeep.report import formatting
from tailkeep.report.charts import Axis, Series, line_chart
from tailkeep.report.lab.paired_differences import Difference
from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.lab.stats import FailureSummary, GroupSummary, entry_interval
from tailkeep.report.metric_catalog import FailureRule, limits_of
from tailkeep.report.phrases import Role
from tailkeep.report.svg import (
    WIDTH,
    Figure,
    Scale,
    UniqueNames,
    distinct_labels,
    linear,
    marker,
    path,
    text,
    tick_texts,
    ticks,
)
from tailkeep.report.text_metrics import is_test
from tailkeep.runs.generation_dir import is_curve_table, read_speeds

MAX_ARMS, MAX_OF_ROLE, _MAX_BANDS = 8, 4, 4
_SIZES = (1.0, 0.72, 1.3, 0.5)

Curve = Mapping[int, Interval]
"""The mean over seeds by generation."""


def curve_of(group: ArmGroup, arm: str, metric: str) -> dict[int, Interval]:
    """The mean of each generation that all seeds of the arm have finished, with its CI."""
    by_generation: dict[int, list[Entry]] = {}
    for entry in group.entries_of(arm):
        by_generation.setdefault(entry.generation, []).append(entry)
    seeds = len({entry.seed for entry in group.entries_of(arm)})
    return {
        generation: entry_interval(group.catalog, metric, [entry.metrics for entry in rows])
        for generation, rows in sorted(by_generation.items())
        if len(rows) == seeds
    }


def arms_in_picture(
    group: ArmGroup, differences: Sequence[Difference], metric: str, *, most: int = MAX_ARMS
) -> tuple[str, ...]:
    """The arms that one picture shows: all, or the first and those that differ most from their baseline in `metric`.

    At most `most`, and at most four of one role; in the order of the config. Arms without the metric come last.
    """
    by_size = sorted(
        (one for one in differences if one.metric == metric and math.isfinite(one.final.mean)),
        key=lambda one: (not one.is_significant, -abs(one.final.mean)),
    )
    ranked = [group.arms[0], *(one.arm for one in by_size)]
    measured = _arms_with(group, metric)
    ranked += sorted((arm for arm in group.arms if arm not in ranked), key=lambda arm: arm not in measured)
    if measured and ranked[0] not in measured:
        ranked = [*ranked[1:], ranked[0]]
    counts: dict[str, int] = {}
    selected: list[str] = []
    for arm in ranked:
        role = group.roles[arm].css
        if len(selected) < most and counts.get(role, 0) < MAX_OF_ROLE:
            selected.append(arm)
            counts[role] = counts.get(role, 0) + 1
    return tuple(arm for arm in group.arms if arm in selected)


def _arms_with(group: ArmGroup, metric: str) -> set[str]:
    """The arms that have a finite value of `metric`."""
    return {entry.arm for entry in group.entries if math.isfinite(entry.metrics.get(metric, math.nan))}


def marker_sizes(arms: Sequence[str], roles: Mapping[str, Role]) -> dict[str, float]:
    """The marker size of each arm: arms of one role differ in it."""
    counts: dict[str, int] = {}
    sizes = {}
    for arm in arms:
        index = counts.get(roles[arm].css, 0)
        counts[roles[arm].css] = index + 1
        sizes[arm] = _SIZES[index % len(_SIZES)]
    return sizes


def plot_curve(
    group: ArmGroup,
    metric: str,
    differences: Sequence[Difference],
    name: str,
    *,
    title: str = "",
    height: float = 300,
) -> Figure | None:
    """The curves of `metric`, one line per arm in the picture; None where no arm has a finite value."""
    arms = arms_in_picture(group, differences, metric)
    curves = {arm: curve_of(group, arm, metric) for arm in arms}
    curves = {arm: curve for arm, curve in curves.items() if any(math.isfinite(v.mean) for v in curve.values())}
    if not curves:
        return None
    sizes = marker_sizes(list(curves), group.roles)
    banded = _arms_with_band(list(curves), differences, metric)
    series = [_series(group, arm, metric, curve, sizes[arm], arm in banded) for arm, curve in curves.items()]
    known = group.catalog.describe(metric)
    ends = ", ".join(f"{one.label} {formatting.short(_first(one))} to {one.end}" for one in series)
    return line_chart(
        name,
        title or known.title,
        series,
        _axis(group, metric),
        note=_note(group, metric, curves, banded),
        finding=f"{known.title} by generation. {ends}.",
        height=height,
    )


def _series(group: ArmGroup, arm: str, metric: str, curve: Curve, size: float, banded: bool) -> Series:
    generations = list(curve)
    rows = list(curve.values())
    last = next((g for g in reversed(generations) if math.isfinite(curve[g].mean)), generations[-1])
    end = formatting.short(curve[last].mean)
    early = last != max(group.generations())
    companion = group.catalog.describe(metric).companion
    theory = curve_of(group, arm, companion[0]) if companion and companion[0] in group.names else {}
    return Series(
        label=arm,
        role=group.roles[arm],
        xs=generations,
        means=[row.mean for row in rows],
        lows=[row.low for row in rows],
        highs=[row.high for row in rows],
        end=f"{end} at {last}" if early else end,
        size=size,
        theory=[theory[g].mean if g in theory else math.nan for g in generations] if theory else (),
        banded=banded,
    )


def _first(one: Series) -> float:
    return next(mean for mean in one.means if math.isfinite(mean))


def _arms_with_band(arms: Sequence[str], differences: Sequence[Difference], metric: str) -> set[str]:
    if len(arms) <= _MAX_BANDS:
        return set(arms)
    of_metric = [one for one in differences if one.metric == metric and one.arm in arms]
    finite = [one for one in of_metric if math.isfinite(one.final.mean)]
    return {arms[0], *(one.arm for one in sorted(finite, key=lambda one: -abs(one.final.mean))[:1])}


def _axis(group: ArmGroup, metric: str) -> Axis:
    known = group.catalog.describe(metric)
    total = _first_value(group, known.total)
    floor, ceiling = limits_of(known, total)
    references = (known.reference,) if known.reference else ()
    if math.isfinite(total):
        references = ((total, f"all {total:g}"),)
    if is_test(metric):
        chance = _first_value(group, f"{metric}.chance")
        references = ((chance, f"guessing, {chance:.2f}"),) if math.isfinite(chance) else ()
    unit = known.unit or ("share" if known.range == "share" else "")
    if known.items:
        count, words = known.items
        counts = {entry.metrics[count] for entry in group.entries if count in entry.metrics}
        unit = f"share of {next(iter(counts)):,.0f} {words}" if len(counts) == 1 else unit
    return Axis(unit, floor, ceiling, known.log, references)


def _first_value(group: ArmGroup, metric: str) -> float:
    return next((entry.metrics[metric] for entry in group.entries if metric in entry.metrics), math.nan)


def _note(group: ArmGroup, metric: str, curves: Mapping[str, Curve], banded: set[str]) -> str:
    known = group.catalog.describe(metric)
    seeds = max(len({entry.seed for entry in group.entries_of(arm)}) for arm in curves)
    if seeds == 1:
        band = "One seed, so no CI."
    else:
        where = "" if len(banded) == len(curves) else f" of {' and '.join(arm for arm in curves if arm in banded)}"
        kinds = {"share": " (Student t on the logit scale)", "count": " (Student t on the logit scale)"}
        kinds |= {"positive": " (Student t on the log scale)", "any": " (Student t)"}
        shapes = ("Point", "bar") if len(group.generations()) == 1 else ("Line", "band")
        band = f"{shapes[0]}: mean of {seeds} seeds; {shapes[1]}{where}: 95 % CI{kinds[known.range]}."
    measured = len(_arms_with(group, metric))
    which = "the first and those that differ most" if group.arms[0] in curves else "at most four of each role"
    few = f"{len(curves)} of {measured} arms: {which}." if len(curves) < measured else ""
    companion = known.companion
    theory = f"Fine dots: {companion[1]}." if companion and companion[0] in group.names else ""
    better = f"{known.better.capitalize()} is better." if known.better else ""
    return " ".join(filter(None, [known.note, band, theory, few, better]))


_LEFT, _RIGHT, _ROW = 158.0, 390.0, 20.0
_MAX_RULES, _MAX_ROWS, _SENTENCE_LETTERS = 3, 12, 54


def plot_failures(group: ArmGroup, summary: GroupSummary, name: str) -> Figure | None:
    """The median time to failure with its bootstrap CI, one block per rule; None where nothing has one.

    Arms in which no rule applies are left out; of the others the first `_MAX_ROWS` are shown.
    """
    last = max(group.generations())
    defined = {arm.arm: arm.failures for arm in summary.arms if any(map(_is_defined, arm.failures.values()))}
    rows_of = dict(list(defined.items())[:_MAX_ROWS])
    rules = [rule for rule in summary.rules if any(_is_defined(row[rule.key]) for row in rows_of.values())][:_MAX_RULES]
    if not rules or last == 0:
        return None
    x = linear((0, last), (_LEFT, _RIGHT))
    names = distinct_labels(list(rows_of), [18] * len(rows_of))
    parts: list[str] = []
    y, findings = 14.0, []
    for rule in rules:
        *lines, last_line = wrap(_sentence(rule), _SENTENCE_LETTERS)
        for line in lines:
            parts.append(text(0, y, line, "row"))
            y += 17
        parts.append(text(0, y, last_line, "row"))
        bottom = y + 8 + _ROW * len(rows_of)
        values = [value for value in ticks(0, last, 5) if float(round(value, 9)).is_integer()]
        parts += [path([(x(value), y + 8), (x(value), bottom)], "grid") for value in values]
        for index, ((arm, failures), shown) in enumerate(zip(rows_of.items(), names, strict=True)):
            middle = y + 18 + _ROW * index
            role = group.roles[arm]
            parts.append(text(0, middle + 4.5, shown, f"sig {role.css}"))
            failure = failures[rule.key]
            words = formatting.failure(failure)
            parts.append(_bar(group, arm, failure, x, middle))
            parts.append(text(WIDTH, middle + 4.5, words, "num", "end"))
            findings.append(f"{arm}, {rule.condition}: {words}")
        y = bottom + 28
    for value, word in zip(values, tick_texts(values), strict=True):
        parts.append(text(x(value), y - 10, word, "tick", "middle"))
    parts.append(text((_LEFT + _RIGHT) / 2, y + 8, "generation", "axis", "middle"))
    seeds = max(len(arm.seeds) for arm in summary.arms)
    undefined = any(not _is_defined(failures[rule.key]) for failures in rows_of.values() for rule in rules)
    dash = f" {formatting.DASH}: not measured, or beyond the limit at generation 0." if undefined else ""
    bounds = "; bar: bootstrap CI over seeds" if seeds > 1 else ""
    median = "Interpolated between recorded generations" + (
        f", median over {seeds} seeds" if seeds > 1 else ", one seed"
    )
    absent = len(group.arms) - len(defined)
    some = (
        f" Left out: {absent} of {len(group.arms)} arms, where it is not measured or passed at generation 0."
        if absent
        else ""
    )
    some += f" The first {len(rows_of)} of {len(defined)} arms." if len(rows_of) < len(defined) else ""
    note = f"{median}{bounds}. Arrow: not reached.{dash}{some}"
    title = "Time to failure"
    return Figure(name, title, note, f"{title}. {'; '.join(findings)}.", y + 14, "".join(parts))


def _sentence(rule: FailureRule) -> str:
    return rule.condition[0].upper() + rule.condition[1:]


def _is_defined(failure: FailureSummary) -> bool:
    return math.isfinite(failure.time)


def _bar(group: ArmGroup, arm: str, failure: FailureSummary, x: Scale, y: float) -> str:
    role = group.roles[arm]
    if not _is_defined(failure):
        return ""
    parts, last = [], float(max(group.generations()))
    low, high = failure.bounds.low, failure.bounds.high
    if math.isfinite(low) and not math.isnan(high):
        end = x(min(high, last))
        parts.append(path([(x(low), y), (end, y)], f"whisk {role.css}"))
    if failure.censored or math.isinf(high):
        edge = x(last)
        start = x(failure.time)
        parts.append(path([(start, y), (edge, y)], f"whisk {role.css}"))
        parts.append(f'<path class="arrow {role.css}" d="M{edge + 9:.1f} {y:.1f}l-9 -4.5v9z"/>')
    if not failure.censored:
        parts.append(marker(role, x(failure.time), y))
    return "".join(parts)


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
    series = [
        _training_series(group, arm, column, of_arm) for arm, of_arm in lines.items() if column in of_arm[-1].columns
    ]
    ends = "; ".join(f"{one.label} ends at {one.end}" for one in series)
    title, unit = _PANELS[column]
    note = "Within each generation, from its first reading to its last: means over the steps between, and over seeds."
    finding = f"{title} over the generations: {ends}."
    return line_chart(name, title, series, Axis(unit), note=note, finding=finding, height=300, plain=True)


def _training_series(group: ArmGroup, arm: str, column: str, of_arm: Sequence[TrainingLine]) -> Series:
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
        if is_curve_table(name)
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
