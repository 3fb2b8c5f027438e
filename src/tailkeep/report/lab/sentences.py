"""The statistics of a run in sentences.

Rule: no claim goes beyond the intervals.
"""

import math

from tailkeep.report import formatting
from tailkeep.report.lab.paired_differences import Difference
from tailkeep.report.lab.run import UnfinishedChain
from tailkeep.report.lab.stats import GroupSummary
from tailkeep.report.metric_catalog import BOUNDED_SHARE, describe, is_known


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
