"""What the numbers say, in sentences.

Rule: nothing is claimed beyond the intervals. An order is stated only between arms whose intervals lie apart, and one
seed has no interval.
"""

import math
from collections.abc import Mapping

from tailkeep.metrics import Interval
from tailkeep.report import numbers
from tailkeep.report.reading import Missing
from tailkeep.report.summary import GroupSummary
from tailkeep.report.vocabulary import METRICS, FailureRule, describe, split_view

_TOLD = 2


def sentences(group: GroupSummary) -> tuple[str, ...]:
    """One sentence for each of the first two comparable metrics, and one for each rule of failure."""
    told = [name for name in group.metrics if describe(name).better][:_TOLD]
    said = [_comparison(group, name) if len(group.arms) > 1 else _alone(group, name) for name in told]
    return (*filter(None, said), *(_failures(group, rule) for rule in group.rules))


def _comparison(group: GroupSummary, name: str) -> str:
    levels = {arm: row[name] for arm, row in group.common.items() if math.isfinite(row[name].mean)}
    if len(levels) < 2:
        return ""
    lower = describe(name).better == "lower"
    best, *others = sorted(levels, key=lambda arm: levels[arm].mean if lower else -levels[arm].mean)
    seeds = next(len(arm.seeds) for arm in group.arms if arm.arm == best)
    lead = f"{_when(group)}, {_title(name)} is {'lowest' if lower else 'highest'} for {best}"
    lost = [arm for arm in group.common if arm not in levels]
    without = f" {join(lost)} {'has' if len(lost) == 1 else 'have'} no finite value there." if lost else ""
    return f"{lead} ({_with_interval(levels[best], seeds)}){_standing(levels, best, others)}{without}"


def _when(group: GroupSummary) -> str:
    generation = group.common_generation
    if all(arm.generation == generation for arm in group.arms):
        return f"At generation {generation}"
    return f"At generation {generation}, the last that all arms share"


def _standing(levels: Mapping[str, Interval], best: str, others: list[str]) -> str:
    if math.isnan(levels[best].low):
        listed = join([f"{numbers.number(levels[arm].mean)} for {arm}" for arm in others])
        return f", against {listed}; one seed gives no interval, so the order may be chance."
    unknown = [arm for arm in others if math.isnan(levels[arm].low)]
    overlap = [arm for arm in others if arm not in unknown and _overlap(levels[best], levels[arm])]
    apart = [arm for arm in others if arm not in unknown and arm not in overlap]
    parts = [f"its interval lies apart from {_those_of(apart)}"] if apart else []
    parts += [f"it overlaps {_those_of(overlap)}, so no order is claimed there"] if overlap else []
    parts += [f"{join(unknown)} {'has' if len(unknown) == 1 else 'have'} no interval"] if unknown else []
    said = "; ".join(parts)
    return "; " + (said if apart else said.replace("it overlaps", "its interval overlaps", 1)) + "."


def _those_of(arms: list[str]) -> str:
    return f"{'that' if len(arms) == 1 else 'those'} of {join(arms)}"


def _overlap(one: Interval, other: Interval) -> bool:
    return one.low <= other.high and other.low <= one.high


def _alone(group: GroupSummary, name: str) -> str:
    arm = group.arms[0]
    metric = arm.metrics[name]
    if not (math.isfinite(metric.level.mean) and math.isfinite(metric.first.mean)) or arm.generation == 0:
        return ""
    return (
        f"From generation 0 to {arm.generation}, {_title(name)} of {arm.arm} went from "
        f"{numbers.number(metric.first.mean)} to {_with_interval(metric.level, metric.seeds)}."
    )


def _failures(group: GroupSummary, rule: FailureRule) -> str:
    failed: list[str] = []
    kept: list[str] = []
    unjudged: list[str] = []
    for arm in group.arms:
        summary = arm.failures[rule.metric]
        judged = summary.failed + summary.censored_seeds
        if summary.failed:
            share = f"{summary.failed} of {numbers.seeds(judged)}"
            failed.append(f"{share} of {arm.arm} (median time {numbers.failure(summary)})")
        else:
            (kept if judged else unjudged).append(arm.arm)
    said = rule.past[0].upper() + rule.past[1:]
    parts = [f"{said} in {join(failed)}"] if failed else []
    parts += [f"in no seed of {join(kept)}" if failed else f"{said} in no seed of {join(kept)}"] if kept else []
    parts += [f"{'' if parts else said + ': '}{join(unjudged)} cannot be judged"] if unjudged else []
    return "; ".join(parts) + "."


def _with_interval(level: Interval, seeds: int) -> str:
    bounds = numbers.interval(level)
    mean = numbers.mean(level)
    return f"{mean}; {numbers.COVERAGE} interval {bounds} over {numbers.seeds(seeds)}" if bounds else mean


def _title(name: str) -> str:
    title = describe(name).title
    known = split_view(name)[1] in METRICS
    return title[0].lower() + title[1:] if known and title[1:2].islower() else title


def join(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def unfinished(missing: tuple[Missing, ...]) -> tuple[str, ...]:
    """One line for each arm and seed that is not at its end."""
    return tuple(_unfinished(one) for one in missing)


def _unfinished(one: Missing) -> str:
    last = "no generation finished" if one.last is None else f"finished up to generation {one.last}"
    begun = "" if one.working_on is None else f", generation {one.working_on} begun"
    return f"{one.arm}, seed {one.seed}: {last}{begun}"
