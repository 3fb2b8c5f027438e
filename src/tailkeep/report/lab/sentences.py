"""The statistics of a run in sentences.

Rule: no claim goes beyond the intervals. Arms are ordered only where their 95 % CIs do not overlap, and one seed has no
CI.
"""

import math
from collections.abc import Mapping

from tailkeep.metrics import Interval
from tailkeep.report import formatting
from tailkeep.report.lab.paired_differences import Difference
from tailkeep.report.lab.run import UnfinishedChain
from tailkeep.report.lab.stats import FailureRule, GroupSummary
from tailkeep.report.metric_catalog import BOUNDED_SHARE, describe, is_known

_MAX_METRICS = 2


def sentences(group: GroupSummary) -> tuple[str, ...]:
    """One sentence for each of the first two comparable metrics, each rule of failure, and edits beyond the bound."""
    names = [name for name in group.metrics if describe(name).better][:_MAX_METRICS]
    lines = [_comparison(group, name) if len(group.arms) > 1 else _single_arm(group, name) for name in names]
    return (*filter(None, lines), *(_failures(group, rule) for rule in group.rules), *edit_bound_sentences(group))


def paired_sentences(group: GroupSummary) -> tuple[str, ...]:
    """The paired difference of each arm from the first in the first comparable metric; empty where there is none."""
    name = next((name for name in group.metrics if describe(name).better), None)
    finite = [one for one in group.differences if one.metric == name and math.isfinite(one.final.mean)]
    if not finite:
        return ()
    first, *_ = rows = sorted(finite, key=lambda one: one.final.mean)
    shared = len({(one.seeds, one.generation) for one in rows}) == 1
    where = f", over {formatting.seeds(first.seeds)} at generation {first.generation}" if shared else ""
    parts = join([_paired(one) for one in rows])
    return (f"Paired by seed{where}, {_title(first.metric)} minus that of {group.arms[0].arm} is {parts}.",)


def mcnemar_sentences(group: GroupSummary) -> tuple[str, ...]:
    """A sentence for each arm: the discordant pairs with its baseline at the last generation, by seed."""
    lines = []
    for arm in dict.fromkeys(one.arm for one in group.mcnemar):
        last = max(one.generation for one in group.mcnemar if one.arm == arm)
        tests = [one for one in group.mcnemar if (one.arm, one.generation) == (arm, last)]
        only_arm, only_baseline = (", ".join(str(one.test[side]) for one in tests) for side in (0, 1))
        p_values = ", ".join(formatting.number(one.test.p_value, digits=2) for one in tests)
        lines.append(
            f"Discordant pairs at generation {last}, by seed: {only_arm} questions that only {arm} answers correctly, "
            f"{only_baseline} that only {tests[0].baseline} does (McNemar p {p_values})."
        )
    return tuple(lines)


def _paired(one: Difference) -> str:
    bounds = formatting.interval(one.final, signed=True)
    return f"{formatting.mean(one.final, signed=True)} for {one.arm}" + (f" ({bounds})" if bounds else "")


def edit_bound_sentences(group: GroupSummary) -> tuple[str, ...]:
    """A sentence where edits have changed more of the real data than the bound on collapse allows."""
    metrics = {arm.arm: arm.metrics.get("cumulative_changed_share") for arm in group.arms}
    shares = {arm: metric.final.mean for arm, metric in metrics.items() if metric}
    beyond = [f"{formatting.number(share)} for {arm}" for arm, share in shares.items() if share > BOUNDED_SHARE]
    if not beyond:
        return ()
    return (
        f"Edits have changed this share of the real data's tokens: {join(beyond)}. Above "
        f"{formatting.number(BOUNDED_SHARE)} the bound on collapse under edits does not hold.",
    )


def _comparison(group: GroupSummary, name: str) -> str:
    values = {arm: row[name] for arm, row in group.common.items() if math.isfinite(row[name].mean)}
    if len(values) < 2:
        return ""
    lower = describe(name).better == "lower"
    order = sorted(values, key=lambda arm: values[arm].mean if lower else -values[arm].mean)
    best = [arm for arm in order if formatting.printed_mean(values[arm]) == formatting.printed_mean(values[order[0]])]
    others = [arm for arm in order if arm not in best]
    lead = f"{_when(group)}, {_title(name)} is {_rank('lowest' if lower else 'highest', best, others)} {join(best)}"
    seeds = next(len(arm.seeds) for arm in group.arms if arm.arm == best[0])
    shown = _with_interval(values[best[0]], seeds) if len(best) == 1 else formatting.mean(values[best[0]])
    lost = [arm for arm in group.common if arm not in values]
    without = f" {join(lost)} {'has' if len(lost) == 1 else 'have'} no finite value there." if lost else ""
    return f"{lead} ({shown}){_ranking(values, best, others)}{without}"


def _rank(extreme: str, best: list[str], others: list[str]) -> str:
    if len(best) == 1:
        return f"{extreme} for"
    return f"{extreme}, and equal to the printed precision, for" if others else "equal to the printed precision for"


def _when(group: GroupSummary) -> str:
    generation = group.common_generation
    if all(arm.generation == generation for arm in group.arms):
        return f"At generation {generation}"
    return f"At generation {generation}, the last that all arms share"


def _ranking(values: Mapping[str, Interval], best: list[str], others: list[str]) -> str:
    if not others:
        return "."
    if any(math.isnan(values[arm].low) for arm in best):
        listed = join([f"{formatting.number(values[arm].mean)} for {arm}" for arm in others])
        return f", against {listed}; one seed gives no CI, so the order may be chance."
    unknown = [arm for arm in others if math.isnan(values[arm].low)]
    overlap = [a for a in others if a not in unknown and any(_overlap(values[b], values[a]) for b in best)]
    separate = [arm for arm in others if arm not in unknown and arm not in overlap]
    subject, pronoun, do, s = (
        ("its 95 % CI", "it", "does", "s") if len(best) == 1 else ("their 95 % CIs", "they", "do", "")
    )
    parts = [f"{subject} {do} not overlap {_those_of(separate)}"] if separate else []
    pronoun = pronoun if separate else subject
    parts += [f"{pronoun} overlap{s} {_those_of(overlap)}, so these are not ranked"] if overlap else []
    parts += [f"{join(unknown)} {'has' if len(unknown) == 1 else 'have'} no CI"] if unknown else []
    return f"; {'; '.join(parts)}."


def _those_of(arms: list[str]) -> str:
    return f"{'that' if len(arms) == 1 else 'those'} of {join(arms)}"


def _overlap(one: Interval, other: Interval) -> bool:
    return one.low <= other.high and other.low <= one.high


def _single_arm(group: GroupSummary, name: str) -> str:
    arm = group.arms[0]
    metric = arm.metrics[name]
    if not (math.isfinite(metric.final.mean) and math.isfinite(metric.initial.mean)) or arm.generation == 0:
        return ""
    return (
        f"From generation 0 to {arm.generation}, {_title(name)} of {arm.arm} went from "
        f"{formatting.number(metric.initial.mean)} to {_with_interval(metric.final, metric.seeds)}."
    )


def _failures(group: GroupSummary, rule: FailureRule) -> str:
    failed: list[str] = []
    intact: list[str] = []
    undefined: dict[str, list[str]] = {}
    for arm in group.arms:
        summary = arm.failures[rule.key]
        defined = summary.failed + summary.censored_seeds
        if summary.failed:
            share = f"{summary.failed} of {formatting.seeds(defined)}"
            failed.append(f"{share} of {arm.arm} (median time {formatting.failure(summary)})")
        elif defined:
            intact.append(arm.arm)
        else:
            undefined.setdefault(formatting.undefined_reason(summary), []).append(arm.arm)
    event = rule.event[0].upper() + rule.event[1:]
    parts = [f"{event} in {join(failed)}"] if failed else []
    parts += [f"in no seed of {join(intact)}" if failed else f"{event} in no seed of {join(intact)}"] if intact else []
    reasons = [f"{join(arms)} {reason}, so there is no time to failure" for reason, arms in undefined.items()]
    return ("" if parts else f"{rule.condition[0].upper()}{rule.condition[1:]}: ") + "; ".join(parts + reasons) + "."


def _with_interval(value: Interval, seeds: int) -> str:
    bounds = formatting.interval(value)
    mean = formatting.mean(value)
    return f"{mean}; {formatting.COVERAGE} CI {bounds} over {formatting.seeds(seeds)}" if bounds else mean


def _title(name: str) -> str:
    title = describe(name).title
    return title[0].lower() + title[1:] if is_known(name) and title[1:2].islower() else title


def join(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def unfinished_lines(chains: tuple[UnfinishedChain, ...]) -> tuple[str, ...]:
    """One line for each chain that has not reached its last generation."""
    return tuple(_unfinished(one) for one in chains)


def _unfinished(one: UnfinishedChain) -> str:
    last = "no generation finished" if one.last is None else f"finished up to generation {one.last}"
    started = "" if one.working_on is None else f", generation {one.working_on} started"
    return f"{one.arm}, seed {one.seed}: {last}{started}"
