"""Arms compared seed by seed.

Rule: both are read at the last generation that both have finished under all the seeds that both have, and a value
that is not finite there makes the difference one too.
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

Cells = Mapping[int, Mapping[int, Mapping[str, float]]]


@dataclass(frozen=True)
class Difference:
    """`arm` less `base`, seed by seed: 95 % Student-t intervals over the `seeds` that both have.

    `level` is at `generation`, `slope` per generation up to it.
    """

    arm: str
    base: str
    metric: str
    seeds: int
    generation: int
    level: Interval
    slope: Interval

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.level.low > 0 or self.level.high < 0


def differences(group: ArmGroup, arm: str, metrics: Iterable[str]) -> list[Difference]:
    """By how much `arm` lies above what it is compared with; nothing where the two have no generation in common."""
    base = group.base_of(arm)
    ours, theirs = _cells(group, arm), _cells(group, base)
    seeds = sorted(ours.keys() & theirs.keys())
    shared = set.intersection(*(set(ours[seed].keys() & theirs[seed].keys()) for seed in seeds)) if seeds else set()
    generations = sorted(shared)

    def one(metric: str) -> Difference:
        rows = [[_value(ours, s, g, metric) - _value(theirs, s, g, metric) for g in generations] for s in seeds]
        level = mean_interval([row[-1] for row in rows])
        slopes = mean_interval([slope(generations, row) for row in rows])
        return Difference(arm, base, metric, len(seeds), generations[-1], level, slopes)

    return [one(metric) for metric in metrics] if generations else []


def measured_difference(group: ArmGroup, arm: str, metric: str) -> Difference | None:
    """The difference in `metric`; None where one of the two never has it, or they have no generation in common."""
    have = {entry.arm for entry in group.entries if metric in entry.metrics}
    return next(iter(differences(group, arm, [metric])), None) if {arm, group.base_of(arm)} <= have else None


def _cells(group: ArmGroup, arm: str) -> Cells:
    found: dict[int, dict[int, Mapping[str, float]]] = {}
    for entry in group.of(arm):
        found.setdefault(entry.seed, {})[entry.generation] = entry.metrics
    return found


def _value(cells: Cells, seed: int, generation: int, metric: str) -> float:
    return cells[seed][generation].get(metric, math.nan)


# Two arms on the same questions, one by one: which of them knows what the other does not.
#
# Rule: arms are compared at the same generation and seed, by the questions of one file that both have answered.


@dataclass(frozen=True)
class AnswerTest:
    """McNemar's exact test of an arm against the one it is compared with, at one generation under one seed.

    `test.only_first` counts the questions that only `arm` answers rightly, `test.only_second` those that only `base`
    does. `questions` are those that both were asked, `left_out` those of them on which one finds no difference.
    """

    arm: str
    base: str
    seed: int
    generation: int
    questions: int
    left_out: int
    test: McNemar


def answer_tests(group: ArmGroup) -> Iterator[AnswerTest]:
    """By arm, seed and generation; nothing where no questions were asked."""
    for arm in group.compared:
        first = {(entry.seed, entry.generation): _answers(entry) for entry in group.of(group.base_of(arm))}
        for entry in group.of(arm):
            (file, ours), (other, theirs) = _answers(entry), first.get((entry.seed, entry.generation), ("", {}))
            both = sorted(ours.keys() & theirs.keys())
            if file == other and both:
                test, left_out = kr_compare([ours[n] for n in both], [theirs[n] for n in both])
                yield AnswerTest(arm, group.base_of(arm), entry.seed, entry.generation, len(both), left_out, test)


def part_rows(group: ArmGroup) -> Iterator[tuple[Entry, Mapping[str, Any]]]:
    """The rows of the table `knowledge` of every entry: the whole test, and behind it each fraction."""
    for entry in group.entries:
        yield from ((entry, row) for row in _table(entry).get("rows", ()) if isinstance(row, Mapping))


def _answers(entry: Entry) -> tuple[str, dict[int, float]]:
    """What tells the question file, and the margin of each question by its number in it."""
    table = _table(entry)
    numbers, margins = table.get("numbers", ()), table.get("margins", ())
    if not isinstance(numbers, Sequence) or not isinstance(margins, Sequence) or len(numbers) != len(margins):
        return "", {}
    pairs = zip(numbers, margins, strict=True)
    return str(table.get("file", "")), {int(number): float(margin) for number, margin in pairs}


def _table(entry: Entry) -> Mapping[str, Any]:
    found = entry.tables.get("knowledge")
    return found if isinstance(found, Mapping) else {}
