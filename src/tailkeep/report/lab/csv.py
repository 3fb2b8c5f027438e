"""The tables of a run as CSV: every metric of every finished generation, and the summary.

Rule: full precision, one header line, one row per fact; a missing number is an empty field.
"""

import math
from collections.abc import Iterable, Sequence

from tailkeep.report.lab.paired_differences import GroupMargins, MarginDifference, part_rows
from tailkeep.report.lab.run import LabRun
from tailkeep.report.lab.stats import Summary
from tailkeep.runs import csv_text
from tailkeep.sanitize import visible

Row = Sequence[str | int | float | None]

_METRICS = ("learner", "arm", "seed", "generation", "metric", "value")
_SUMMARY = (
    *("learner", "arm", "metric", "seeds", "generation", "initial", "final", "final_low", "final_high"),
    *("slope", "slope_low", "slope_high"),
)
_DIFFERENCES = (
    *("learner", "arm", "baseline", "metric", "seeds", "generation", "final", "final_low", "final_high"),
    *("slope", "slope_low", "slope_high", "p_value", "corrected_p"),
)
_MCNEMAR = (
    *("learner", "arm", "baseline", "seed", "generation", "questions", "ties"),
    *("only_arm", "only_baseline", "p_value"),
)
_KR_PARTS = (
    *("learner", "arm", "seed", "generation", "part", "items", "accuracy", "wilson_low", "wilson_high"),
    *("bootstrap_low", "bootstrap_high", "by_sum", "by_mean"),
)
_KR_MARGINS = (
    *("learner", "arm", "seeds", "generation", "questions", "articles", "initial", "initial_low", "initial_high"),
    *("final", "final_low", "final_high", "half_life", "half_life_low", "half_life_high"),
    *("half_life_censored", "baseline", "difference", "difference_low", "difference_high", "p_value", "corrected_p"),
    *("bound", "equivalence_p", "corrected_equivalence_p"),
)
_FAILURES = (
    *("learner", "arm", "rule", "time", "time_low", "time_high", "censored"),
    *("seeds_failed", "seeds_censored", "seeds_undefined"),
)


def tables(run: LabRun, summary: Summary, margins: Sequence[GroupMargins]) -> dict[str, str]:
    """File name -> CSV; those of the KR-test only where it was run."""
    mcnemar, kr_parts, kr_margins = list(_mcnemar(summary)), list(_kr_parts(run)), list(_kr_margins(run, margins))
    return {
        **({"mcnemar.csv": _csv(_MCNEMAR, mcnemar)} if mcnemar else {}),
        **({"kr_accuracy.csv": _csv(_KR_PARTS, kr_parts)} if kr_parts else {}),
        **({"kr_margins.csv": _csv(_KR_MARGINS, kr_margins)} if kr_margins else {}),
        "differences.csv": _csv(_DIFFERENCES, _differences(summary)),
        "failures.csv": _csv(_FAILURES, _failures(summary)),
        "metrics.csv": _csv(_METRICS, _metrics(run)),
        "summary.csv": _csv(_SUMMARY, _summary(summary)),
    }


def _metrics(run: LabRun) -> Iterable[Row]:
    for group in run.groups:
        for entry in group.entries:
            for name, value in entry.metrics.items():
                yield group.learner, entry.arm, entry.seed, entry.generation, name, value


def _summary(summary: Summary) -> Iterable[Row]:
    for group in summary.groups:
        for arm in group.arms:
            for name, metric in arm.metrics.items():
                where = group.learner, arm.arm, name, metric.seeds, metric.generation
                yield *where, metric.initial.mean, *metric.final, *metric.slope


def _failures(summary: Summary) -> Iterable[Row]:
    for group in summary.groups:
        for arm in group.arms:
            for failure in arm.failures.values():
                times = failure.time, failure.bounds.low, failure.bounds.high
                counts = failure.failed, failure.censored_seeds, failure.undefined
                yield group.learner, arm.arm, failure.rule.condition, *times, int(failure.censored), *counts


def _differences(summary: Summary) -> Iterable[Row]:
    for group in summary.groups:
        for one in group.differences:
            bounds = *one.final, *one.slope, one.p_value, one.corrected_p
            yield group.learner, one.arm, one.baseline, one.metric, one.seeds, one.generation, *bounds


def _mcnemar(summary: Summary) -> Iterable[Row]:
    for group in summary.groups:
        for one in group.mcnemar:
            where = one.seed, one.generation, one.questions, one.ties
            yield group.learner, one.arm, one.baseline, *where, *one.test


def _kr_parts(run: LabRun) -> Iterable[Row]:
    for group in run.groups:
        for entry, row in part_rows(group):
            wilson, bootstrap = row["accuracy"], row["bootstrap"]
            bounds = wilson["mean"], wilson["low"], wilson["high"], bootstrap["low"], bootstrap["high"]
            where = entry.arm, entry.seed, entry.generation, row["part"], row["items"]
            yield group.learner, *where, *bounds, row["by_sum"], row["by_mean"]


def _kr_margins(run: LabRun, margins: Sequence[GroupMargins]) -> Iterable[Row]:
    for group, of_group in zip(run.groups, margins, strict=True):
        for arm in of_group.arms:
            failure, low, high, _ = arm.failure
            half_life = failure.time, low, high, int(failure.state == "censored")
            where = arm.arm, arm.seeds, arm.generation, arm.questions, arm.articles
            yield (
                group.learner,
                *where,
                *arm.initial,
                *arm.final,
                *half_life,
                *_margin_test(of_group.difference_of(arm.arm)),
            )


def _margin_test(one: MarginDifference | None) -> Row:
    if one is None:
        return "", *[math.nan] * 8
    equivalence = (one.equivalence.bound, one.equivalence.p_value) if one.equivalence else (math.nan, math.nan)
    p_values = one.p_value, one.corrected_p
    return one.baseline, *one.difference, *p_values, *equivalence, one.corrected_equivalence_p


def _csv(header: Sequence[str], rows: Iterable[Row]) -> str:
    return csv_text(header, ([_field(value) for value in row] for row in rows))


def _field(value: str | int | float | None) -> str:
    if isinstance(value, str):
        return visible(value, newline=" ")
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else repr(value)
