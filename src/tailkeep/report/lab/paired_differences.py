"""Each arm minus its baseline: seed by seed in every metric, and question by question in the KR-test.

Rules: all arms are compared at one generation, the last that every arm has finished, and under the same seeds. With a
value that is not finite a difference is not finite either. Margins are paired by question and resampled by article,
while seeds are averaged and never resampled: that says how sure the questions make a difference between these models.
It needs questions with locations, which say what article each is about.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tailkeep.metrics import (
    Equivalence,
    Failure,
    FailureInterval,
    Interval,
    McNemar,
    compare_standardised_margins,
    holm_correction,
    kr_compare,
    mean_interval,
    mean_standardised_margin,
    slope,
    standardised_margin_failure,
    standardised_margin_interval,
)
from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.metric_catalog import difference_interval

ALPHA = 0.05
EQUIVALENCE_SHARE = 0.1
"""The bound of the equivalence test, as a share of the baseline's margin at generation 0."""
_UNDEFINED = FailureInterval(Failure(math.nan, "undefined"), math.nan, math.nan, math.nan)

SeedMetrics = Mapping[int, Mapping[int, Mapping[str, float]]]
"""seed -> generation -> the metrics by name."""


@dataclass(frozen=True)
class Difference:
    """`arm` - `baseline`, paired by seed: 95 % Student-t intervals over the `seeds` that both have.

    `final` is at `generation`, `slope` per generation up to it. `p_value` is that of Student's t test of `final`, and
    `corrected_p` the same after Holm's correction for the `comparisons` arms of the metric.
    """

    arm: str
    baseline: str
    metric: str
    seeds: int
    generation: int
    final: Interval
    slope: Interval
    p_value: float = math.nan
    corrected_p: float = math.nan
    comparisons: int = 1

    @property
    def is_significant(self) -> bool:
        """Whether the arms differ significantly (95 %), corrected for the number of arms."""
        return self.corrected_p < ALPHA

    @property
    def excludes_zero(self) -> bool:
        """Whether the 95 % CI of `final` excludes 0, which by itself is not corrected for the number of arms."""
        return self.final.low > 0 or self.final.high < 0


def group_differences(group: ArmGroup, metrics: Sequence[str]) -> tuple[Difference, ...]:
    """Each compared arm minus its baseline, by arm and metric, at the last generation that all arms have finished."""
    generation = group.common_generation
    if generation is None:
        return ()
    rows = [one for arm in group.compared_arms for one in _differences(group, arm, metrics, generation)]
    return tuple(_corrected(rows))


def _corrected(rows: Sequence[Difference]) -> list[Difference]:
    by_metric: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_metric.setdefault(row.metric, []).append(index)
    result = list(rows)
    for indices in by_metric.values():
        p_values = [rows[index].p_value for index in indices]
        comparisons = sum(map(math.isfinite, p_values))
        for index, p in zip(indices, holm_correction(p_values), strict=True):
            if math.isfinite(p):
                result[index] = replace(rows[index], corrected_p=p, comparisons=comparisons)
    return result


def _differences(group: ArmGroup, arm: str, metrics: Iterable[str], last: int) -> list[Difference]:
    baseline = group.baseline_of(arm)
    first, second = (group.by_seed(one, lambda entry: entry.metrics) for one in (arm, baseline))
    seeds = sorted(first.keys() & second.keys())
    shared = set.intersection(*(set(first[seed].keys() & second[seed].keys()) for seed in seeds)) if seeds else set()
    generations = sorted(generation for generation in shared if generation <= last)

    def one(metric: str) -> Difference:
        rows = [[_value(first, s, g, metric) - _value(second, s, g, metric) for g in generations] for s in seeds]
        values = [row[-1] for row in rows]
        slopes = mean_interval([slope(generations, row) for row in rows])
        final = difference_interval(group.catalog.describe(metric), values)
        return Difference(arm, baseline, metric, len(seeds), generations[-1], final, slopes, paired_p_value(values))

    return [one(metric) for metric in metrics] if generations else []


def paired_p_value(values: Sequence[float]) -> float:
    """The two-sided p-value of Student's t test that paired differences have the mean 0; NaN for fewer than two.

    Equal differences have no variance, so the t test is undefined; they have the p-value of the sign test, 2^(1 - n).
    """
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    if spread <= 1e-12 * max(map(abs, values)):
        return 2.0 ** (1 - len(values)) if mean else 1.0
    return float(2 * stats.t.sf(abs(mean) / (spread / math.sqrt(len(values))), len(values) - 1))


def _value(metrics: SeedMetrics, seed: int, generation: int, metric: str) -> float:
    return metrics[seed][generation].get(metric, math.nan)


@dataclass(frozen=True)
class McNemarTest:
    """McNemar's exact test of an arm against its baseline on the same questions, at one generation under one seed.

    The discordant pairs are `test.only_first`, the questions that only `arm` answers correctly, and `test.only_second`,
    those that only `baseline` does. `questions` counts those that both were scored on, `ties` those of them that the
    test skips because an arm scores both sentences equally or not at all.
    """

    arm: str
    baseline: str
    seed: int
    generation: int
    questions: int
    ties: int
    test: McNemar


def mcnemar_tests(group: ArmGroup) -> Iterator[McNemarTest]:
    """By arm, seed and generation; empty where no questions were scored."""
    for arm in group.compared_arms:
        baseline = {(e.seed, e.generation): _margin_by_number(e) for e in group.entries_of(group.baseline_of(arm))}
        for entry in group.entries_of(arm):
            file, first = _margin_by_number(entry)
            other_file, second = baseline.get((entry.seed, entry.generation), ("", {}))
            both = sorted(first.keys() & second.keys())
            if file == other_file and both:
                test, ties = kr_compare([first[n] for n in both], [second[n] for n in both])
                yield McNemarTest(arm, group.baseline_of(arm), entry.seed, entry.generation, len(both), ties, test)


def part_rows(group: ArmGroup) -> Iterator[tuple[Entry, Mapping[str, Any]]]:
    """The rows of the table `knowledge` of every entry: the whole test, then each fraction."""
    for entry in group.entries:
        yield from ((entry, row) for row in knowledge_table(entry).get("rows", ()) if isinstance(row, Mapping))


def _margin_by_number(entry: Entry) -> tuple[str, dict[int, float]]:
    """The id of the question file, and the margin of each question by its number in the file."""
    table = knowledge_table(entry)
    numbers, margins = table.get("numbers", ()), table.get("margins", ())
    if not isinstance(numbers, Sequence) or not isinstance(margins, Sequence) or len(numbers) != len(margins):
        return "", {}
    pairs = zip(numbers, margins, strict=True)
    return str(table.get("file", "")), {int(number): float(margin) for number, margin in pairs}


def knowledge_table(entry: Entry) -> Mapping[str, Any]:
    """The table `knowledge` of a generation; empty where no questions were scored."""
    table = entry.tables.get("knowledge")
    return table if isinstance(table, Mapping) else {}


@dataclass(frozen=True)
class ArmMargin:
    """The standardised margin of one arm with 95 % intervals over articles: `initial` at generation 0, `final` later.

    `failure` is when it first falls below half of its initial value, in generations; without bounds where it is
    undefined. NaN and undefined where a seed lacks generation 0.
    """

    arm: str
    seeds: int
    generation: int
    questions: int
    articles: int
    initial: Interval
    final: Interval
    failure: FailureInterval


@dataclass(frozen=True)
class MarginDifference:
    """`arm` - `baseline` at `generation`, the mean over the seeds that both have, paired by question.

    `equivalence` is the test that the difference lies within +-10 % of the baseline's margin at generation 0; None
    where that margin is not positive or was not measured. The corrected p-values are Holm's over the arms of the group.
    """

    arm: str
    baseline: str
    seeds: int
    generation: int
    difference: Interval
    p_value: float
    equivalence: Equivalence | None
    corrected_p: float = math.nan
    corrected_equivalence_p: float = math.nan


@dataclass(frozen=True)
class GroupMargins:
    """The margins of the arms of one learner, and their differences from the baseline.

    `differences` are those at the last generation that all arms have finished.
    """

    arms: tuple[ArmMargin, ...]
    differences: tuple[MarginDifference, ...]

    @classmethod
    def of(cls, group: ArmGroup) -> "GroupMargins":
        """Those of `group`, which take a tenth of a second per arm."""
        return cls(arm_margins(group), margin_differences(group))

    @property
    def last_generation(self) -> int | None:
        """The generation of every arm's final margin; None where arms differ in it."""
        generations = {one.generation for one in self.arms}
        return generations.pop() if len(generations) == 1 else None

    def difference_of(self, arm: str) -> MarginDifference | None:
        """The difference of `arm` from its baseline, if there is one."""
        return next((one for one in self.differences if one.arm == arm), None)


def arm_margins(group: ArmGroup) -> tuple[ArmMargin, ...]:
    """The margin of each arm whose questions have locations; those with a margin at every generation of every seed."""
    return tuple(one for arm in group.arms if (one := _arm_margin(group, arm)) is not None)


def margin_differences(group: ArmGroup) -> tuple[MarginDifference, ...]:
    """Each arm minus its baseline at the last generation that all arms have finished."""
    rows = [one for arm in group.compared_arms if (one := _margin_difference(group, arm)) is not None]
    corrected = holm_correction([row.p_value for row in rows])
    equivalent = holm_correction([math.nan if row.equivalence is None else row.equivalence.p_value for row in rows])
    return tuple(
        replace(row, corrected_p=p, corrected_equivalence_p=q)
        for row, p, q in zip(rows, corrected, equivalent, strict=True)
    )


def _arm_margin(group: ArmGroup, arm: str) -> ArmMargin | None:
    by_seed = group.by_seed(arm, _located_table)
    shared = set.intersection(*(set(tables) for tables in by_seed.values())) if by_seed else set()
    generations = sorted(shared)
    tables = [by_seed[seed][generation] for seed in sorted(by_seed) for generation in generations]
    if not tables or (aligned := _aligned(tables)) is None:
        return None
    margins, articles = aligned
    chains = margins.reshape(len(by_seed), len(generations), -1)
    initial, failure = Interval(math.nan, math.nan, math.nan), _UNDEFINED
    if generations[0] == 0:
        initial = standardised_margin_interval(chains[:, 0], articles)
        failure = standardised_margin_failure(generations, chains, articles)
    return ArmMargin(
        arm,
        len(by_seed),
        generations[-1],
        len(articles),
        len(set(articles.tolist())),
        initial,
        standardised_margin_interval(chains[:, -1], articles),
        # Its resamples are undefined as well, and count as 0.
        _UNDEFINED if failure.failure.state == "undefined" else failure,
    )


def _margin_difference(group: ArmGroup, arm: str) -> MarginDifference | None:
    baseline, generation = group.baseline_of(arm), group.common_generation
    first, second = (group.by_seed(one, _located_table) for one in (arm, baseline))
    seeds = [
        seed
        for seed in sorted(first.keys() & second.keys())
        if generation in first[seed] and generation in second[seed]
    ]
    if generation is None or not seeds:
        return None
    initial = [second[seed][0] for seed in seeds if 0 in second[seed]]
    sides = [tables[seed][generation] for tables in (first, second) for seed in seeds]
    aligned = _aligned([*sides, *initial])
    if aligned is None:
        return None
    margins, articles = aligned
    one, other, start = np.split(margins, [len(seeds), 2 * len(seeds)])
    # A bound of 0 is no test.
    bound = EQUIVALENCE_SHARE * mean_standardised_margin(start) if len(initial) == len(seeds) else 0.0
    compared = compare_standardised_margins(one, other, articles, bound=bound)
    return MarginDifference(arm, baseline, len(seeds), generation, *compared)


def _located_table(entry: Entry) -> Mapping[str, Any] | None:
    """The table `knowledge`, where each of its questions has a location."""
    table = knowledge_table(entry)
    columns = [table.get(name, ()) for name in ("numbers", "locations", "margins")]
    if not all(isinstance(column, Sequence) and column for column in columns):
        return None
    return table if len({len(column) for column in columns}) == 1 and None not in table["locations"] else None


def _aligned(tables: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """(tables, questions) the margins of the questions that all tables have, and (questions,) their articles.

    None where the tables are of different question files, or less than two articles or a finite spread are left.
    """
    if len({str(table.get("file", "")) for table in tables}) > 1:
        return None
    columns = [dict(zip(table["numbers"], table["margins"], strict=True)) for table in tables]
    numbers = sorted(set.intersection(*(set(column) for column in columns)))
    article_of = dict(zip(tables[0]["numbers"], tables[0]["locations"], strict=True))
    articles = np.array([article_of[number] for number in numbers], np.int64)
    margins = np.array([[column[number] for number in numbers] for column in columns], np.float64)
    usable = len(set(articles.tolist())) > 1 and np.isfinite(margins).all() and (margins.std(axis=1) > 0).all()
    return (margins, articles) if usable else None
