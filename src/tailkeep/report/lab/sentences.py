"""A run in sentences: its statistics, what was added after its first call, and whether all arms were trained equally.

Rules: no claim goes beyond the intervals. Seeds and arms that were added later, environments that differ and merged
runs are named, since a reader may want to compare only what was computed together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailkeep.report import formatting
from tailkeep.report.lab.paired_differences import Difference
from tailkeep.report.lab.run import ArmGroup, UnfinishedChain
from tailkeep.report.lab.samples import first_middle_last
from tailkeep.report.lab.stats import GroupSummary
from tailkeep.report.metric_catalog import BOUNDED_SHARE
from tailkeep.runs import Addition


def paired_sentences(group: GroupSummary) -> tuple[str, ...]:
    """The paired difference of each arm from the first in the first comparable metric; empty where there is none."""
    name = next((name for name in group.metrics if group.catalog.describe(name).better), None)
    finite = [one for one in group.differences if one.metric == name and math.isfinite(one.final.mean)]
    if not finite:
        return ()
    first, *_ = rows = sorted(finite, key=lambda one: one.final.mean)
    shared = len({(one.seeds, one.generation) for one in rows}) == 1
    where = f", over {formatting.seeds(first.seeds)} at generation {first.generation}" if shared else ""
    parts = join([_paired(one) for one in rows])
    title = group.catalog.title_in_sentence(first.metric)
    return (f"Paired by seed{where}, {title} minus that of {group.arms[0].arm} is {parts}.",)


def mcnemar_sentences(group: GroupSummary) -> tuple[str, ...]:
    """A sentence for each arm: the discordant pairs with its baseline, by seed, at the last generation of all seeds."""
    lines = []
    for arm in dict.fromkeys(one.arm for one in group.mcnemar):
        generations: dict[int, set[int]] = {}
        for one in group.mcnemar:
            if one.arm == arm:
                generations.setdefault(one.seed, set()).add(one.generation)
        last = max(set.intersection(*generations.values()), default=None)
        tests = [one for one in group.mcnemar if (one.arm, one.generation) == (arm, last)]
        if not tests:
            continue
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


def join(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def unfinished_lines(chains: tuple[UnfinishedChain, ...]) -> tuple[str, ...]:
    """One line for each chain that lacks a generation."""
    return tuple(_unfinished(one) for one in chains)


def _unfinished(one: UnfinishedChain) -> str:
    last = "no generation finished" if one.last is None else f"finished up to generation {one.last}"
    started = "" if one.working_on is None else f", generation {one.working_on} started"
    missing = "" if one.missing is None else f", generation {one.missing} missing"
    return f"{one.arm}, seed {one.seed}: {last}{missing}{started}"


def growth_lines(history: Sequence[Addition]) -> tuple[str, ...]:
    """A line for each later call that added something to the run; none for a run of one call."""
    lines = []
    for number, addition in enumerate(history[1:], start=1):
        before = history[:number]
        seeds = [seed for seed in addition.seeds if all(seed not in one.seeds for one in before)]
        previous = {arm: max(one.arms.get(arm, 0) for one in before) for arm in addition.arms}
        # After a merge the earlier calls no longer have what was computed again.
        arms = [arm for arm in addition.arms if not previous[arm] and arm not in addition.recomputed]
        longer = [
            f"generations up to {generations - 1} of {arm}"
            for arm, generations in addition.arms.items()
            if generations > previous[arm] > 0
        ]
        parts = [*_listed("seed", seeds), *_listed("arm", arms), *longer]
        added = [f"{join(parts)} added"] if parts else []
        recomputed = [f"{join(list(addition.recomputed))} computed again"] if addition.recomputed else []
        accepted = [f"another environment accepted: {'; '.join(addition.accepted)}"] if addition.accepted else []
        merged = [f"merged from {join(list(addition.merged))}"] if addition.merged else []
        what = "; ".join([*merged, *added, *recomputed, *accepted])
        if what or addition.arms:
            what = what or f"chains of {join(list(addition.arms))} added"
            lines.append(f"{addition.at[:10]}: {what}.")
    return tuple(lines)


def _listed(noun: str, names: Sequence[object]) -> list[str]:
    """`seed 1`, `seeds 1 and 2`, of consecutive numbers `seeds 3 to 11`; nothing without names."""
    if len(names) < 2:
        return [f"{noun} {name}" for name in names]
    numbers = [name for name in names if isinstance(name, int)]
    if len(names) > 2 and numbers == list(range(numbers[0], numbers[0] + len(names)) if numbers else ()):
        return [f"{noun}s {names[0]} to {names[-1]}"]
    return [f"{noun}s {join([str(name) for name in names])}"]


_EQUAL_WITHIN = 0.01
_MAX_COLUMNS = 8


@dataclass(frozen=True)
class TrainingUnits:
    """Training units (mean over seeds) of each arm at some generations, and the largest spread between arms.

    `spread` is the largest (max / min - 1) of any generation. Whole batches cannot meet a budget exactly, so up to 1 %
    counts as equal.
    """

    generations: tuple[int, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]
    spread: float

    @property
    def equal(self) -> bool:
        """Whether the arms trained equally, to within 1 %."""
        return self.spread <= _EQUAL_WITHIN

    @property
    def verdict(self) -> str:
        """Whether the arms trained equally, as a sentence."""
        if self.spread == 0:
            return "All arms trained equally."
        if self.equal:
            return f"All arms trained equally, to within {self.spread:.1%}.".replace("%", "\u202f%")
        return "The arms did not train equally, which may explain a part of the differences."


def caveats(group: ArmGroup, summary: GroupSummary) -> tuple[str, ...]:
    """What a verdict must not be read without: edits beyond the bound on collapse, and arms that trained unequally."""
    units = training_units(group)
    return (*edit_bound_sentences(summary), *([] if units is None or units.equal else [units.verdict]))


def training_units(group: ArmGroup) -> TrainingUnits | None:
    """The units of all arms; None where none was recorded."""
    series = {arm: group.series(arm, "train_units") for arm in group.arms}
    means = {arm: _means(by_seed) for arm, by_seed in series.items() if by_seed}
    if not means:
        return None
    recorded = sorted({generation for row in means.values() for generation in row})
    generations = first_middle_last(recorded, _MAX_COLUMNS)
    rows = tuple((arm, tuple(row.get(g, float("nan")) for g in generations)) for arm, row in means.items())
    values = [[row[g] for row in means.values() if g in row] for g in recorded]
    return TrainingUnits(generations, rows, spread=max(max(at) / max(min(at), 1.0) - 1 for at in values))


def _means(by_seed: Mapping[int, Mapping[int, float]]) -> dict[int, float]:
    generations = sorted({generation for row in by_seed.values() for generation in row})
    values = {g: [row[g] for row in by_seed.values() if g in row] for g in generations}
    return {g: sum(row) / len(row) for g, row in values.items()}
