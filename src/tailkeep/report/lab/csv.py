"""The numbers of a run as CSV: every metric of every finished cell, and the summary.

Rule: full precision, one header line, one row a fact; a number that is not there is an empty field.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence

from tailkeep.metrics import Interval
from tailkeep.report.lab.paired_differences import part_rows
from tailkeep.report.lab.run import LabRun
from tailkeep.report.lab.stats import ArmSummary, FailureSummary, Summary
from tailkeep.sanitize import visible

Row = Sequence[str | int | float]

_METRICS = ("learner", "arm", "seed", "generation", "metric", "value")
_SUMMARY = (
    *("learner", "arm", "metric", "seeds", "generation", "first", "level", "level_low", "level_high"),
    *("slope", "slope_low", "slope_high"),
)
_DIFFERENCES = (
    *("learner", "arm", "from_arm", "metric", "seeds", "generation", "level", "level_low", "level_high"),
    *("slope", "slope_low", "slope_high"),
)
_ANSWERS = (
    *("learner", "arm", "from_arm", "seed", "generation", "questions", "left_out"),
    *("only_arm", "only_from_arm", "p_value"),
)
_KNOWLEDGE = (
    *("learner", "arm", "seed", "generation", "part", "items", "accuracy", "wilson_low", "wilson_high"),
    *("bootstrap_low", "bootstrap_high", "by_sum", "by_mean"),
)
_FAILURES = (
    *("learner", "arm", "rule", "time", "time_low", "time_high", "censored"),
    *("seeds_failed", "seeds_censored", "seeds_undefined"),
)


def tables(reading: LabRun, summary: Summary) -> dict[str, str]:
    """File name -> CSV; those of the knowledge-retention test where one was asked."""
    answers, knowledge = list(_answers(summary)), list(_knowledge(reading))
    return {
        **({"answers.csv": _csv(_ANSWERS, answers)} if answers else {}),
        **({"knowledge.csv": _csv(_KNOWLEDGE, knowledge)} if knowledge else {}),
        "differences.csv": _csv(_DIFFERENCES, _differences(summary)),
        "failures.csv": _csv(_FAILURES, _failures(summary)),
        "metrics.csv": _csv(_METRICS, _metrics(reading)),
        "summary.csv": _csv(_SUMMARY, _summary(summary)),
    }


def _metrics(reading: LabRun) -> Iterable[Row]:
    for group in reading.groups:
        for entry in group.entries:
            for name, value in entry.metrics.items():
                yield group.learner, entry.arm, entry.seed, entry.generation, name, value


def _summary(summary: Summary) -> Iterable[Row]:
    for group in summary.groups:
        for arm in group.arms:
            for row in _arm(arm):
                yield group.learner, arm.arm, *row


def _arm(arm: ArmSummary) -> Iterable[Row]:
    for name, metric in arm.metrics.items():
        level, slope = _bounds(metric.level), _bounds(metric.slope)
        yield name, metric.seeds, metric.generation, metric.first.mean, *level, *slope


def _bounds(value: Interval) -> tuple[float, float, float]:
    return value.mean, value.low, value.high


def _failures(summary: Summary) -> Iterable[Row]:
    for group in summary.groups:
        for arm in group.arms:
            for failure in arm.failures.values():
                counts = failure.failed, failure.censored_seeds, failure.undefined
                yield group.learner, arm.arm, failure.rule.words, *_times(failure), int(failure.censored), *counts


def _times(failure: FailureSummary) -> tuple[float, float, float]:
    return failure.time, failure.bounds.low, failure.bounds.high


def _differences(summary: Summary) -> Iterable[Row]:
    for group in summary.groups:
        for one in group.differences:
            bounds = *_bounds(one.level), *_bounds(one.slope)
            yield group.learner, one.arm, one.base, one.metric, one.seeds, one.generation, *bounds


def _answers(summary: Summary) -> Iterable[Row]:
    for group in summary.groups:
        for one in group.answers:
            where = one.seed, one.generation, one.questions, one.left_out
            yield group.learner, one.arm, one.base, *where, *one.test


def _knowledge(reading: LabRun) -> Iterable[Row]:
    for group in reading.groups:
        for entry, row in part_rows(group):
            wilson, drawn = row["accuracy"], row["bootstrap"]
            bounds = wilson["mean"], wilson["low"], wilson["high"], drawn["low"], drawn["high"]
            where = entry.arm, entry.seed, entry.generation, row["part"], row["items"]
            yield group.learner, *where, *bounds, row["by_sum"], row["by_mean"]


def _csv(header: Sequence[str], rows: Iterable[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_field(value) for value in row] for row in rows)
    return buffer.getvalue()


def _field(value: str | int | float) -> str:
    if isinstance(value, str):
        return visible(value, newline=" ")
    return "" if isinstance(value, float) and math.isnan(value) else repr(value)
