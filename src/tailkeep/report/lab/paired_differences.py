"""Each arm minus its baseline, seed by seed, and McNemar's test of the two on the same questions.

Rule: both arms are compared at one generation and under the same seeds. A difference is taken at the last generation
that both have finished under all common seeds; with a value that is not finite it is not finite either.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailkeep.metrics import (
    Interval,
    McNemar,
    kr_compare,
    mean_interval,
    slope,
)
from tailkeep.report.lab.run import ArmGroup, Entry

SeedMetrics = Mapping[int, Mapping[int, Mapping[str, float]]]
"""seed -> generation -> the metrics by name."""


@dataclass(frozen=True)
class Difference:
    """`arm` - `baseline`, paired by seed: 95 % Student-t intervals over the `seeds` that both have.

    `final` is at `generation`, `slope` per generation up to it.
    """

    arm: str
    baseline: str
    metric: str
    seeds: int
    generation: int
    final: Interval
    slope: Interval

    @property
    def is_significant(self) -> bool:
        """Whether the 95 % CI of `final` excludes 0."""
        return self.final.low > 0 or self.final.high < 0


def differences(group: ArmGroup, arm: str, metrics: Iterable[str]) -> list[Difference]:
    """`arm` minus its baseline for each of `metrics`; empty where the two have no generation in common."""
    baseline = group.baseline_of(arm)
    first, second = _seed_metrics(group, arm), _seed_metrics(group, baseline)
    seeds = sorted(first.keys() & second.keys())
    shared = set.intersection(*(set(first[seed].keys() & second[seed].keys()) for seed in seeds)) if seeds else set()
    generations = sorted(shared)

    def one(metric: str) -> Difference:
        rows = [[_value(first, s, g, metric) - _value(second, s, g, metric) for g in generations] for s in seeds]
        final = mean_interval([row[-1] for row in rows])
        slopes = mean_interval([slope(generations, row) for row in rows])
        return Difference(arm, baseline, metric, len(seeds), generations[-1], final, slopes)

    return [one(metric) for metric in metrics] if generations else []


def paired_difference(group: ArmGroup, arm: str, metric: str) -> Difference | None:
    """The difference in `metric`; None where one of the two never measures it, or they have no generation in common."""
    have = {entry.arm for entry in group.entries if metric in entry.metrics}
    return next(iter(differences(group, arm, [metric])), None) if {arm, group.baseline_of(arm)} <= have else None


def _seed_metrics(group: ArmGroup, arm: str) -> SeedMetrics:
    by_seed: dict[int, dict[int, Mapping[str, float]]] = {}
    for entry in group.entries_of(arm):
        by_seed.setdefault(entry.seed, {})[entry.generation] = entry.metrics
    return by_seed


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
        yield from ((entry, row) for row in _table(entry).get("rows", ()) if isinstance(row, Mapping))


def _margins(entry: Entry) -> tuple[str, dict[int, float]]:
    """The id of the question file, and the margin of each question by its number in the file."""
    table = _table(entry)
    numbers, margins = table.get("numbers", ()), table.get("margins", ())
    if not isinstance(numbers, Sequence) or not isinstance(margins, Sequence) or len(numbers) != len(margins):
        return "", {}
    pairs = zip(numbers, margins, strict=True)
    return str(table.get("file", "")), {int(number): float(margin) for number, margin in pairs}


def _table(entry: Entry) -> Mapping[str, Any]:
    table = entry.tables.get("knowledge")
    return table if isinstance(table, Mapping) else {}
