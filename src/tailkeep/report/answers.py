"""Two arms on the same questions, one by one: which of them knows what the other does not.

Rule: arms are compared at the same generation and seed, by the questions of one file that both have answered.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailkeep.metrics import McNemar, kr_compare
from tailkeep.report.reading import Entry, Group


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


def answer_tests(group: Group) -> Iterator[AnswerTest]:
    """By arm, seed and generation; nothing where no questions were asked."""
    for arm in group.compared:
        first = {(entry.seed, entry.generation): _answers(entry) for entry in group.of(group.base_of(arm))}
        for entry in group.of(arm):
            (file, ours), (other, theirs) = _answers(entry), first.get((entry.seed, entry.generation), ("", {}))
            both = sorted(ours.keys() & theirs.keys())
            if file == other and both:
                test, left_out = kr_compare([ours[n] for n in both], [theirs[n] for n in both])
                yield AnswerTest(arm, group.base_of(arm), entry.seed, entry.generation, len(both), left_out, test)


def part_rows(group: Group) -> Iterator[tuple[Entry, Mapping[str, Any]]]:
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
