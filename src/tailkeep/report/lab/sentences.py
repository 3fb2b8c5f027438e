"""What the numbers say, in sentences.

Rule: nothing is claimed beyond the intervals. An order is stated only between arms whose intervals lie apart, and one
seed has no interval.
"""

import math
from collections.abc import Mapping

from tailkeep.metrics import Interval
from tailkeep.report import formatting
from tailkeep.report.lab.paired_differences import Difference
from tailkeep.report.lab.run import Missing
from tailkeep.report.lab.stats import FailureRule, GroupSummary
from tailkeep.report.metric_catalog import BOUNDED_SHARE, describe, is_known

_TOLD = 2


def sentences(group: GroupSummary) -> tuple[str, ...]:
    """One sentence for each of the first two comparable metrics, each rule of failure, and edits that go far."""
    told = [name for name in group.metrics if describe(name).better][:_TOLD]
    said = [_comparison(group, name) if len(group.arms) > 1 else _alone(group, name) for name in told]
    return (*filter(None, said), *(_failures(group, rule) for rule in group.rules), *far_edits(group))


def paired(group: GroupSummary) -> tuple[str, ...]:
    """How far the first comparable metric of each arm lies from that of the first arm, seed by seed; or nothing."""
    name = next((name for name in group.metrics if describe(name).better), None)
    told = [one for one in group.differences if one.metric == name and math.isfinite(one.level.mean)]
    if not told:
        return ()
    told = sorted(told, key=lambda one: one.level.mean)
    parts = [_paired(one) for one in told]
    seeds = {(one.seeds, one.generation) for one in told}
    where = f"over {formatting.seeds(told[0].seeds)} at generation {told[0].generation}" if len(seeds) == 1 else "each"
    return (f"Paired with {group.arms[0].arm} by seed, {where}, {_title(told[0].metric)} differs by {join(parts)}.",)


def answered(group: GroupSummary) -> tuple[str, ...]:
    """A sentence for each arm: how many questions only it, or only its rival, gets right at the last generation."""
    said = []
    for arm in dict.fromkeys(one.arm for one in group.answers):
        last = max(one.generation for one in group.answers if one.arm == arm)
        told = [one for one in group.answers if (one.arm, one.generation) == (arm, last)]
        ours, theirs = (", ".join(str(one.test[side]) for one in told) for side in (0, 1))
        p_values = ", ".join(formatting.number(one.test.p_value, digits=2) for one in told)
        said.append(
            f"Of the same questions at generation {last} only {arm} answers {ours} rightly and only "
            f"{told[0].base} {theirs} (by seed; McNemar p {p_values})."
        )
    return tuple(said)


def _paired(one: Difference) -> str:
    bounds = formatting.interval(one.level, signed=True)
    return f"{formatting.mean(one.level, signed=True)} for {one.arm}" + (f" ({bounds})" if bounds else "")


def far_edits(group: GroupSummary) -> tuple[str, ...]:
    """A sentence where edits have changed more of the real data than the bound on collapse allows."""
    told = {arm.arm: arm.metrics.get("cumulative_changed_share") for arm in group.arms}
    shares = {arm: metric.level.mean for arm, metric in told.items() if metric}
    far = [f"{formatting.number(share)} for {arm}" for arm, share in shares.items() if share > BOUNDED_SHARE]
    if not far:
        return ()
    return (
        f"The share of the real data's tokens that edits have changed is {join(far)}; above "
        f"{formatting.number(BOUNDED_SHARE)} the bound on collapse under edits does not hold.",
    )


def _comparison(group: GroupSummary, name: str) -> str:
    levels = {arm: row[name] for arm, row in group.common.items() if math.isfinite(row[name].mean)}
    if len(levels) < 2:
        return ""
    lower = describe(name).better == "lower"
    order = sorted(levels, key=lambda arm: levels[arm].mean if lower else -levels[arm].mean)
    best = [arm for arm in order if formatting.as_printed(levels[arm]) == formatting.as_printed(levels[order[0]])]
    others = [arm for arm in order if arm not in best]
    lead = f"{_when(group)}, {_title(name)} is {_place('lowest' if lower else 'highest', best, others)} {join(best)}"
    seeds = next(len(arm.seeds) for arm in group.arms if arm.arm == best[0])
    shown = _with_interval(levels[best[0]], seeds) if len(best) == 1 else formatting.mean(levels[best[0]])
    lost = [arm for arm in group.common if arm not in levels]
    without = f" {join(lost)} {'has' if len(lost) == 1 else 'have'} no finite value there." if lost else ""
    return f"{lead} ({shown}){_standing(levels, best, others)}{without}"


def _place(extreme: str, best: list[str], others: list[str]) -> str:
    if len(best) == 1:
        return f"{extreme} for"
    return f"{extreme}, and equal to the printed precision, for" if others else "equal to the printed precision for"


def _when(group: GroupSummary) -> str:
    generation = group.common_generation
    if all(arm.generation == generation for arm in group.arms):
        return f"At generation {generation}"
    return f"At generation {generation}, the last that all arms share"


def _standing(levels: Mapping[str, Interval], best: list[str], others: list[str]) -> str:
    if not others:
        return "."
    if any(math.isnan(levels[arm].low) for arm in best):
        listed = join([f"{formatting.number(levels[arm].mean)} for {arm}" for arm in others])
        return f", against {listed}; one seed gives no interval, so the order may be chance."
    unknown = [arm for arm in others if math.isnan(levels[arm].low)]
    overlap = [a for a in others if a not in unknown and any(_overlap(levels[b], levels[a]) for b in best)]
    apart = [arm for arm in others if arm not in unknown and arm not in overlap]
    one = len(best) == 1
    whose, they, s = ("its interval", "it", "s") if one else ("their intervals", "they", "")
    parts = [f"{whose} lie{s} apart from {_those_of(apart)}"] if apart else []
    they = they if apart else whose
    parts += [f"{they} overlap{s} {_those_of(overlap)}, so no order is claimed there"] if overlap else []
    parts += [f"{join(unknown)} {'has' if len(unknown) == 1 else 'have'} no interval"] if unknown else []
    return f"; {'; '.join(parts)}."


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
        f"{formatting.number(metric.first.mean)} to {_with_interval(metric.level, metric.seeds)}."
    )


def _failures(group: GroupSummary, rule: FailureRule) -> str:
    failed: list[str] = []
    kept: list[str] = []
    timeless: dict[str, list[str]] = {}
    for arm in group.arms:
        summary = arm.failures[rule.key]
        judged = summary.failed + summary.censored_seeds
        if summary.failed:
            share = f"{summary.failed} of {formatting.seeds(judged)}"
            failed.append(f"{share} of {arm.arm} (median time {formatting.failure(summary)})")
        else:
            (kept if judged else timeless.setdefault(formatting.unjudged(summary), [])).append(arm.arm)
    said = rule.past[0].upper() + rule.past[1:]
    parts = [f"{said} in {join(failed)}"] if failed else []
    parts += [f"in no seed of {join(kept)}" if failed else f"{said} in no seed of {join(kept)}"] if kept else []
    told = [f"{join(arms)} {why}, so there is no time to failure" for why, arms in timeless.items()]
    return ("" if parts else f"{rule.words[0].upper()}{rule.words[1:]}: ") + "; ".join(parts + told) + "."


def _with_interval(level: Interval, seeds: int) -> str:
    bounds = formatting.interval(level)
    mean = formatting.mean(level)
    return f"{mean}; {formatting.COVERAGE} interval {bounds} over {formatting.seeds(seeds)}" if bounds else mean


def _title(name: str) -> str:
    title = describe(name).title
    return title[0].lower() + title[1:] if is_known(name) and title[1:2].islower() else title


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
