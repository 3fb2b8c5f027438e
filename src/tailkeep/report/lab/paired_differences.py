"""Each arm minus its baseline, seed by seed, and McNemar's test of the two on the same questions.

Rule: all arms are compared at one generation, the last that every arm has finished, and under the same seeds. With a
value that is not finite a difference is not finite either.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scipy import stats

from tailkeep.metrics import Interval, McNemar, holm_correction, kr_compare, mean_interval, slope
from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.metric_ranges import difference_interval

ALPHA = 0.05

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
        baseline = {(e.seed, e.generation): _margins(e) for e in group.entries_of(group.baseline_of(arm))}
        for entry in group.entries_of(arm):
            file, first = _margins(entry)
            other_file, second = baseline.get((entry.seed, entry.generation), ("", {}))
            both = sorted(first.keys() & second.keys())
            if file == other_file and both:
                test, ties = kr_compare([first[n] for n in both], [second[n] for n in both])
                yield McNemarTest(arm, group.baseline_of(arm), entry.seed, entry.generation, len(both), ties, test)


def part_rows(group: ArmGroup) -> Iterator[tuple[Entry, Mapping[str, Any]]]:
    """The rows of the table `knowledge` of every entry: the whole test, then each fraction."""
    for entry in group.entries:
        yield from ((entry, row) for row in knowledge_table(entry).get("rows", ()) if isinstance(row, Mapping))


def _margins(entry: Entry) -> tuple[str, dict[int, float]]:
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
