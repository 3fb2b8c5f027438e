"""The statistics of a run: per arm and headline metric the final value, the slope and the time to failure.

Rule: intervals are over seeds. The final value is taken at the last generation that all seeds of the arm have finished,
so no seed is averaged with an earlier generation of another.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tailkeep.metrics import (
    Failure,
    Interval,
    binomial_interval,
    margin_limit,
    mean_interval,
    median_time,
    slope,
    time_to_failure,
)
from tailkeep.report.lab.paired_differences import Difference, McNemarTest, group_differences, mcnemar_tests
from tailkeep.report.lab.run import ArmGroup, Entry, LabRun, read_lab_run
from tailkeep.report.metric_catalog import Catalog, FailureRule, seed_interval


@dataclass(frozen=True)
class FailureSummary:
    """Time to failure over seeds, in generations.

    `time` is the median of the seeds for which it is defined (NaN if none); `censored` says that seeds
    which never failed decide it, so that it is a lower bound. `failed`, `censored_seeds` and `undefined` count seeds.
    `bounds` are from a bootstrap over seeds, NaN for a single seed and infinite where seeds never failed.
    """

    rule: FailureRule
    time: float
    censored: bool
    failed: int
    censored_seeds: int
    undefined: int
    bounds: Interval


@dataclass(frozen=True)
class MetricSummary:
    """One metric of one arm over its seeds: 95 % CIs inside its possible range, NaN bounds for a single seed.

    `final` is at `generation`, `initial` at generation 0 (NaN where a seed lacks it), `slope` per generation by least
    squares over all up to `generation`. `unusable` counts the seeds without a finite final value; with any of them the
    interval is NaN. `measured` is false where no generation of the arm has the metric. Without a generation that every
    seed has finished, `generation` is None and nothing is measured.
    """

    name: str
    generation: int | None
    initial: Interval
    final: Interval
    slope: Interval
    seeds: int
    unusable: int
    measured: bool


@dataclass(frozen=True)
class ArmSummary:
    """One arm: its headline metrics by name, in the group's order, and its times to failure by rule.

    `generation` is the last one that every seed has finished, None if there is none.
    """

    arm: str
    seeds: tuple[int, ...]
    generation: int | None
    metrics: dict[str, MetricSummary]
    failures: dict[str, FailureSummary]


@dataclass(frozen=True)
class GroupSummary:
    """The arms of one learner. `metrics` names the headline metrics, `rules` say when an arm has failed.

    `common_generation` is the last one that every seed of every arm has finished (None if there is none), and `common`
    holds arm -> metric -> its summary up to there. `differences` are those of each arm from its baseline, `mcnemar` the
    tests of each arm against its baseline on the same questions, at every generation.
    """

    catalog: Catalog
    metrics: tuple[str, ...]
    rules: tuple[FailureRule, ...]
    arms: tuple[ArmSummary, ...]
    common_generation: int | None
    common: dict[str, dict[str, MetricSummary]]
    differences: tuple[Difference, ...] = ()
    mcnemar: tuple[McNemarTest, ...] = ()

    @property
    def learner(self) -> str:
        """The learner."""
        return self.catalog.learner


@dataclass(frozen=True)
class Summary:
    """The statistics of a run, group by group."""

    name: str
    description: str
    groups: tuple[GroupSummary, ...]


def summarise(path: Path | str) -> Summary:
    """The statistics of the run at `path`, finished or not.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
    """
    return summarise_run(read_lab_run(path))


def summarise_run(run: LabRun) -> Summary:
    """The statistics of `run`."""
    return Summary(run.name, run.description, tuple(_group(group) for group in run.groups))


def _group(group: ArmGroup) -> GroupSummary:
    names = group.catalog.headline_names(group.names)
    rules = group.catalog.failure_rules(group.names)
    arms = tuple(_arm(group, arm, names, rules) for arm in group.arms)
    at = group.common_generation
    common = {} if at is None else {arm: _summaries(group, arm, names, at) for arm in group.arms}
    paired = group_differences(group, names)
    mcnemar = tuple(mcnemar_tests(group))
    return GroupSummary(group.catalog, names, rules, arms, group.common_generation, common, paired, mcnemar)


def entry_interval(catalog: Catalog, name: str, rows: Sequence[Mapping[str, float]]) -> Interval:
    """The mean of the metric `name` over `rows`, the metrics of one generation of each seed, inside its range."""
    metric = catalog.describe(name)
    total = rows[0].get(metric.total, math.nan) if rows else math.nan
    return seed_interval(metric, [row.get(name, math.nan) for row in rows], total)


def _arm(group: ArmGroup, arm: str, names: Sequence[str], rules: Sequence[FailureRule]) -> ArmSummary:
    by_seed = _entries_by_seed(group, arm)
    generation = max(set.intersection(*({e.generation for e in row} for row in by_seed.values())), default=None)
    return ArmSummary(
        arm=arm,
        seeds=tuple(by_seed),
        generation=generation,
        metrics=_summaries(group, arm, names, generation),
        failures={rule.key: _failure(rule, list(by_seed.values())) for rule in rules},
    )


def _entries_by_seed(group: ArmGroup, arm: str) -> dict[int, list[Entry]]:
    by_seed: dict[int, list[Entry]] = {}
    for entry in group.entries_of(arm):
        by_seed.setdefault(entry.seed, []).append(entry)
    return by_seed


def _summaries(group: ArmGroup, arm: str, names: Sequence[str], generation: int | None) -> dict[str, MetricSummary]:
    """The metrics `names` of `arm` up to `generation`, which every seed has finished."""
    seeds = [
        [entry for entry in row if generation is not None and entry.generation <= generation]
        for row in _entries_by_seed(group, arm).values()
    ]
    return {name: _metric_summary(group.catalog, name, seeds, generation) for name in names}


def _metric_summary(catalog: Catalog, name: str, seeds: list[list[Entry]], generation: int | None) -> MetricSummary:
    series = [[(float(e.generation), e.metrics.get(name, math.nan)) for e in entries] for entries in seeds]

    def at(number: int | None) -> Interval:
        rows = [next((e.metrics for e in entries if e.generation == number), {}) for entries in seeds]
        return entry_interval(catalog, name, rows)

    return MetricSummary(
        name=name,
        generation=generation,
        initial=at(0),
        final=at(generation),
        slope=mean_interval([slope([g for g, _ in points], [v for _, v in points]) for points in series]),
        seeds=len(series),
        unusable=sum(not (points and math.isfinite(points[-1][1])) for points in series),
        measured=any(name in entry.metrics for entries in seeds for entry in entries),
    )


def _failure(rule: FailureRule, seeds: list[list[Entry]]) -> FailureSummary:
    failures = [_seed_failure(rule, entries) for entries in seeds]
    states = [failure.state for failure in failures]
    time, censored = _median([failure for failure in failures if failure.state != "undefined"])
    return FailureSummary(
        rule=rule,
        time=time,
        censored=censored,
        failed=states.count("failed"),
        censored_seeds=states.count("censored"),
        undefined=states.count("undefined"),
        bounds=median_time(failures),
    )


def _limit(rule: FailureRule, entries: list[Entry]) -> float:
    """The limit for one seed, NaN where its reference has no positive value at generation 0."""
    limit = rule.limit
    if not limit.of:
        return limit.value
    start = entries[0].metrics.get(limit.of, math.nan) if entries[0].generation == 0 else math.nan
    if limit.chance and not _exceeds_chance(rule, entries[0], start):
        return math.nan
    crossed = margin_limit(start, limit.chance, remaining=limit.value)
    return crossed if math.isfinite(crossed) else math.nan


def _exceeds_chance(rule: FailureRule, first: Entry, start: float) -> bool:
    """Whether `start` is above chance by more than the sampling of questions explains."""
    items = first.metrics.get(rule.items, math.nan)
    if not math.isfinite(items) or not 0 <= start <= 1:
        return start > rule.limit.chance
    return binomial_interval(start * items, int(items)).low > rule.limit.chance


def _seed_failure(rule: FailureRule, entries: list[Entry]) -> Failure:
    limit = _limit(rule, entries)
    if math.isnan(limit):
        return Failure(math.nan, "undefined")
    values = [entry.metrics.get(rule.metric, math.nan) for entry in entries]
    return time_to_failure([entry.generation for entry in entries], values, limit=limit, falling=rule.limit.falling)


def _median(failures: list[Failure]) -> tuple[float, bool]:
    """The median time, and whether it is only a lower bound.

    A seed that did not fail may fail right after its last generation or never: the median is exact if both extremes
    give the same.
    """
    if not failures:
        return math.nan, False
    earliest = statistics.median(failure.time for failure in failures)
    latest = statistics.median(math.inf if failure.state == "censored" else failure.time for failure in failures)
    return earliest, earliest != latest
