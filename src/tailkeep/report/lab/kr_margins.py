"""The standardised margin of the KR-test, arm by arm: paired by question, resampled by article.

Rule: it says how sure the questions make a difference between the models of a run as they are; seeds are averaged and
never resampled. It needs questions with locations, which say what article each is about.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.metrics import (
    Equivalence,
    FailureInterval,
    Interval,
    compare_standardised_margins,
    holm_correction,
    mean_standardised_margin,
    standardised_margin_failure,
    standardised_margin_interval,
)
from tailkeep.report.lab.paired_differences import knowledge_table
from tailkeep.report.lab.run import ArmGroup, Entry

EQUIVALENCE_SHARE = 0.1
"""The bound of the equivalence test, as a share of the baseline's margin at generation 0."""

Margins = NDArray[np.float64]


@dataclass(frozen=True)
class ArmMargin:
    """The standardised margin of one arm with 95 % intervals over articles.

    `failure` is when it first falls below half of its value at the first generation, in generations.
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
    where that margin is not positive. The corrected p-values are Holm's over the arms of the group.
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

    def difference_of(self, arm: str) -> MarginDifference | None:
        """The difference of `arm` from its baseline, if there is one."""
        return next((one for one in self.differences if one.arm == arm), None)


def arm_margins(group: ArmGroup) -> tuple[ArmMargin, ...]:
    """The margin of each arm whose questions have locations; those with a margin at every generation of every seed."""
    return tuple(one for arm in group.arms if (one := _arm_margin(group, arm)) is not None)


def margin_differences(group: ArmGroup) -> tuple[MarginDifference, ...]:
    """Each arm minus its baseline at the last generation that all arms have finished."""
    rows = [one for arm in group.compared_arms if (one := _difference(group, arm)) is not None]
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
    return ArmMargin(
        arm,
        len(by_seed),
        generations[-1],
        len(articles),
        len(set(articles.tolist())),
        standardised_margin_interval(chains[:, 0], articles),
        standardised_margin_interval(chains[:, -1], articles),
        standardised_margin_failure(generations, chains, articles),
    )


def _difference(group: ArmGroup, arm: str) -> MarginDifference | None:
    baseline, generation = group.baseline_of(arm), group.common_generation
    first, second = (group.by_seed(one, _located_table) for one in (arm, baseline))
    seeds = [
        seed
        for seed in sorted(first.keys() & second.keys())
        if generation in first[seed] and generation in second[seed]
    ]
    if generation is None or not seeds:
        return None
    initial = [second[seed][min(second[seed])] for seed in seeds]
    sides = [tables[seed][generation] for tables in (first, second) for seed in seeds]
    aligned = _aligned([*sides, *initial])
    if aligned is None:
        return None
    margins, articles = aligned
    one, other, start = np.split(margins, 3)
    bound = EQUIVALENCE_SHARE * mean_standardised_margin(start)
    compared = compare_standardised_margins(one, other, articles, bound=bound)
    return MarginDifference(arm, baseline, len(seeds), generation, *compared)


def _located_table(entry: Entry) -> Mapping[str, Any] | None:
    """The table `knowledge`, where each of its questions has a location."""
    table = knowledge_table(entry)
    columns = [table.get(name, ()) for name in ("numbers", "locations", "margins")]
    if not all(isinstance(column, Sequence) and column for column in columns):
        return None
    return table if len({len(column) for column in columns}) == 1 and None not in table["locations"] else None


def _aligned(tables: Sequence[Mapping[str, Any]]) -> tuple[Margins, NDArray[np.int64]] | None:
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
