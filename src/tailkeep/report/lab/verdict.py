"""The verdict of a run in one sentence, and the three numbers below it.

Rule: the verdict claims only what a 95 % CI supports, corrected for the number of arms. Where nothing is significant it
says so; it never says that a remedy does not work.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailkeep.metrics import Interval, holm_correction
from tailkeep.report import formatting
from tailkeep.report.lab.curves import curve_of
from tailkeep.report.lab.paired_differences import ALPHA, Difference, paired_p_value
from tailkeep.report.lab.run import ArmGroup
from tailkeep.report.lab.stats import GroupSummary
from tailkeep.report.metric_catalog import difference_interval, words_of
from tailkeep.report.page_kit import KeyNumber
from tailkeep.report.phrases import subject_of
from tailkeep.runs.metric import Better

ONE_SEED = "One seed: no difference can be called significant."
_MAX_WORDS, _MAX_LISTED = 25, 3
_FEW_ARMS = 4


@dataclass(frozen=True)
class Change:
    """How a metric of the baseline changed from generation 0 to the last common one, paired by seed."""

    metric: str
    initial: Interval
    final: Interval
    change: Interval
    p_value: float
    better: Better = None

    @property
    def is_significant(self) -> bool:
        """Whether the change differs from 0 (95 %)."""
        return self.p_value < ALPHA

    @property
    def is_worse(self) -> bool:
        """Whether the change goes in the bad direction; without a better direction every change does."""
        return {"higher": self.change.mean < 0, "lower": self.change.mean > 0, None: True}[self.better]


def baseline_change(group: ArmGroup, arm: str, metric: str) -> Change | None:
    """The change of `metric` in `arm`; None where a seed has no finite value at generation 0 or the last common one."""
    series = group.by_seed(arm, lambda entry: entry.metrics.get(metric, math.nan))
    last = group.common_generation
    rows = [
        (by_generation.get(0, math.nan), by_generation.get(last or 0, math.nan)) for by_generation in series.values()
    ]
    if not last or not rows or not all(math.isfinite(a + b) for a, b in rows):
        return None
    curve = curve_of(group, arm, metric)
    changes = [after - before for before, after in rows]
    if 0 not in curve or last not in curve:
        return None
    described = group.catalog.describe(metric)
    interval = difference_interval(described, changes)
    return Change(metric, curve[0], curve[last], interval, paired_p_value(changes), described.better)


def is_better(one: Difference, better: Better, change: Change | None = None) -> bool | None:
    """Whether the difference goes in the good direction `better`, or without one leads nearer to generation 0.

    None where there is neither a better direction nor a significant change of the baseline.
    """
    if better:
        return (one.final.mean > 0) == (better == "higher")
    if change is None or not change.is_significant:
        return None
    return abs(change.change.mean + one.final.mean) < abs(change.change.mean)


def write_verdict(group: ArmGroup, summary: GroupSummary) -> str:
    """The verdict without a grid, in at most 25 words: the baseline's change, and what each other arm makes of it."""
    if group.common_generation in {None, 0} and max(group.generations(), default=0) > 0:
        return "Not all arms have a generation after 0, so their changes cannot be compared."
    mains = group.catalog.main_metrics(group.names)
    baseline = _reference_of(group, summary)
    changes = {metric: baseline_change(group, baseline, metric) for metric in mains}
    lead = _lead(group, baseline, changes)
    if not group.compared_arms:
        return lead
    if max((one.seeds for one in summary.differences), default=0) < 2:
        return _joined([lead, ONE_SEED])
    halved = _halved(group, summary, changes)
    effects = {arm: _effect_of(group, arm, summary, changes, halved) for arm in group.compared_arms}
    # Without the baseline's change there is no "it".
    clauses = _CLAUSES if lead else {**_CLAUSES, "worse": ("is significantly worse", "are significantly worse")}
    for listed in range(_MAX_LISTED, 0, -1):
        text = _joined([lead, _sentence(group, effects, listed, clauses)])
        if len(text.split()) <= _MAX_WORDS:
            return text
    return text


def _reference_of(group: ArmGroup, summary: GroupSummary) -> str:
    """The arm that the others are compared with; of a grid in which one setting is measured, that of this setting."""
    return next((one.baseline for one in summary.differences if math.isfinite(one.final.mean)), group.arms[0])


def _joined(sentences: Sequence[str]) -> str:
    return " ".join(filter(None, sentences))


def _lead(group: ArmGroup, baseline: str, changes: Mapping[str, Change | None]) -> str:
    known = [change for change in changes.values() if change]
    if not known:
        return ""
    regime = (group.configs.get(baseline, {}).get("regime") or {}).get("name", "replace")
    start = (
        f"Trained on its own {words_of(group.learner).samples}, the model"
        if regime in {"replace", "select"}
        else f"Under {baseline} the model"
    )
    if math.isnan(known[0].p_value):
        first, last = (formatting.short(value.mean) for value in (known[0].initial, known[0].final))
        common, last_generation = group.common_generation, max(group.generations(), default=0)
        when = f" by generation {common}" if common != last_generation else ""
        return f"{start} goes from {first} to {last} in {group.catalog.title_in_sentence(known[0].metric)}{when}."
    significant = _significant(changes)
    if not significant:
        return f"{start} does not change significantly."
    if all(change.is_worse for change in significant):
        return f"{start} gets worse."
    return f"{start} gets better." if not any(change.is_worse for change in significant) else f"{start} changes."


def _significant(changes: Mapping[str, Change | None]) -> list[Change]:
    """The changes that are significant after Holm's correction for all of them; none where a p-value is missing."""
    known = [change for change in changes.values() if change and math.isfinite(change.p_value)]
    corrected = holm_correction([change.p_value for change in known])
    return [change for change, p in zip(known, corrected, strict=True) if p < ALPHA]


@dataclass(frozen=True)
class _Effect:
    """What the significant differences of one arm in the main metrics come to; `kind` is one of `_CLAUSES`."""

    kind: str
    better: str = ""
    worse: str = ""


_CLAUSES = {
    "most": ("prevents most of it", "prevent most of it"),
    "some": ("prevents some of it", "prevent some of it"),
    "better": ("is significantly better", "are significantly better"),
    "worse": ("makes it significantly worse", "make it significantly worse"),
    "both": ("is better in {better} and worse in {worse}", "are better in one metric and worse in another"),
    "other": ("differs significantly", "differ significantly"),
    "none": ("makes no significant difference", "make no significant difference"),
    "untested": ("could not be tested", "could not be tested"),
}
"""The words for one arm and for several, in the order in which a verdict has them."""


def _effect_of(
    group: ArmGroup,
    arm: str,
    summary: GroupSummary,
    changes: Mapping[str, Change | None],
    halved: Mapping[str, set[str]],
) -> _Effect:
    """`halved` is metric -> the arms that prevent significantly more than half of the baseline's change."""
    rows = [one for one in summary.differences if one.arm == arm and one.metric in changes]
    significant = [one for one in rows if one.is_significant]
    if not significant:
        return _Effect("none" if any(math.isfinite(one.p_value) for one in rows) else "untested")
    signs = {
        one.metric: is_better(one, group.catalog.describe(one.metric).better, changes[one.metric])
        for one in significant
    }
    better, worse = ([metric for metric, sign in signs.items() if sign is direction] for direction in (True, False))
    if better and worse:
        titles = (group.catalog.title_in_sentence(metrics[0]) for metrics in (better, worse))
        return _Effect("both", *titles)
    if not better:
        return _Effect("worse" if worse else "other")
    collapsed = {change.metric for change in _significant(changes) if change.is_worse}
    prevented = [one for one in significant if one.metric in collapsed]
    if not prevented:
        return _Effect("better")
    return _Effect("most" if all(arm in halved[one.metric] for one in prevented) else "some")


def _sentence(
    group: ArmGroup, effects: Mapping[str, _Effect], listed: int, clauses: Mapping[str, tuple[str, str]]
) -> str:
    parts, order = [], []
    kinds = {effect.kind for effect in effects.values()}
    # "Most of it" is said where all arms that prevent something prevent most.
    merged = {"most": "some"} if {"most", "some"} <= kinds else {}
    for kind, (single, several) in clauses.items():
        arms = [arm for arm, effect in effects.items() if merged.get(effect.kind, effect.kind) == kind]
        if not arms:
            continue
        effect = effects[arms[0]]
        verb = single.format(better=effect.better, worse=effect.worse) if len(arms) == 1 else several
        parts.append(f"{_names(group, arms, listed)} {verb}")
        order += arms
    sentence = "; ".join(parts)
    # A phrase begins with a capital; the name of an arm keeps its case.
    is_phrase = _subject(group, order[0])
    return (sentence[:1].upper() + sentence[1:] if is_phrase else sentence) + "."


def _subject(group: ArmGroup, arm: str) -> str:
    """What the arm is called in a sentence instead of its name; empty where that would not be clear."""
    subjects = [subject_of(group.configs.get(other, {})) for other in group.compared_arms]
    subject = subject_of(group.configs.get(arm, {}))
    return subject if subject and subjects.count(subject) == 1 and len(group.arms) <= _FEW_ARMS else ""


def _names(group: ArmGroup, arms: Sequence[str], listed: int) -> str:
    # Naming the last one is as short as counting it.
    listed = len(arms) if len(arms) == listed + 1 else listed
    shown = [_subject(group, arm) or arm for arm in arms[:listed]]
    rest = len(arms) - len(shown)
    if rest:
        return f"{', '.join(shown)} and {rest} others"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _halved(group: ArmGroup, summary: GroupSummary, changes: Mapping[str, Change | None]) -> dict[str, set[str]]:
    """metric -> the arms that prevent more than half of the baseline's change, significantly after Holm's correction.

    The correction is for all arms that could be tested, as that of their differences.
    """
    halved = {}
    for metric, change in changes.items():
        if change is None:
            continue
        rows = [one for one in summary.differences if one.metric == metric]
        beyond = [_beyond_half(group, one, change) for one in rows]
        corrected = holm_correction([paired_p_value(values) for values in beyond])
        halved[metric] = {
            one.arm for one, values, p in zip(rows, beyond, corrected, strict=True) if p < ALPHA and sum(values) > 0
        }
    return halved


def _beyond_half(group: ArmGroup, one: Difference, change: Change) -> list[float]:
    """By seed how much more than half of the `change` of its baseline an arm prevents; NaN where that is unknown."""
    sign = -math.copysign(1.0, change.change.mean)
    baseline, final = group.series(one.baseline, one.metric), group.series(one.arm, one.metric)
    missing: dict[int, float] = {}

    def beyond(seed: int) -> float:
        before, after = (baseline.get(seed, missing).get(at, math.nan) for at in (0, one.generation))
        return sign * (final.get(seed, missing).get(one.generation, math.nan) - (before + after) / 2)

    seeds = {entry.seed for entry in group.entries_of(one.arm)} & {e.seed for e in group.entries_of(one.baseline)}
    return [beyond(seed) for seed in sorted(seeds)]


def key_numbers(group: ArmGroup, summary: GroupSummary) -> tuple[KeyNumber, ...]:
    """What the baseline loses, the largest significant difference, and the difference of another compared arm."""
    mains = group.catalog.main_metrics(group.names)
    numbers = []
    names = dict.fromkeys([*mains, *summary.metrics])
    reference = _reference_of(group, summary)
    changes = {metric: baseline_change(group, reference, metric) for metric in names}
    main_changes = {metric: changes[metric] for metric in mains}
    # The change that the verdict speaks of.
    worse = [change for change in _significant(main_changes) if change.is_worse]
    if change := next(iter(worse), main_changes.get(mains[0]) if mains else None):
        numbers.append(_loss_number(group, reference, change))
    largest = _largest(summary, mains, changes)
    if largest:
        numbers.append(_difference_number(group, largest))
        rest = [
            one for metric in mains for one in summary.differences if one.metric == metric and one.arm != largest.arm
        ]
        rest = [one for one in rest if math.isfinite(one.final.mean)]
        others = rest or [
            one
            for one in summary.differences
            if one.metric != largest.metric
            and math.isfinite(one.final.mean)
            and group.catalog.describe(one.metric).better
        ]
        numbers += [_difference_number(group, one) for one in others[:1]]
    elif not group.compared_arms:
        more = [changes[metric] for metric in summary.metrics if metric != mains[0]]
        numbers += [_loss_number(group, reference, change) for change in more if change][:2]
    return tuple(numbers)


def _largest(summary: GroupSummary, mains: Sequence[str], changes: dict[str, Change | None]) -> Difference | None:
    """The largest difference, a significant one if there is any.

    It is measured by what the baseline loses, and where that is not significant by the width of its own CI.
    """

    def size(one: Difference) -> tuple[bool, bool, float, float]:
        change = changes.get(one.metric)
        loss = abs(change.change.mean) if change and change.is_significant else math.inf
        width = one.final.high - one.final.low
        precision = abs(one.final.mean) / width if width > 0 else 0.0
        return one.is_significant, one.metric in mains, abs(one.final.mean) / loss, precision

    finite = [one for one in summary.differences if math.isfinite(one.final.mean)]
    return max(finite, key=size, default=None)


def _loss_number(group: ArmGroup, arm: str, change: Change) -> KeyNumber:
    has_bounds = math.isfinite(change.final.low)
    first, last = (
        formatting.mean(value) if has_bounds else formatting.short(value.mean)
        for value in (change.initial, change.final)
    )
    bounds = formatting.interval(change.final)
    parts = [bounds if bounds == formatting.EQUAL_SEEDS else f"95 % CI {bounds}" if bounds else "one seed, no CI"]
    metric = group.catalog.describe(change.metric)
    if metric.reference:
        parts.append(metric.reference[1].replace(", ", ": "))
    words = f"{metric.title} of {arm}, generation 0 to {group.common_generation}"
    return KeyNumber(group.roles[arm], f"{first} → {last}", metric.unit, words, "; ".join(parts))


def _difference_number(group: ArmGroup, one: Difference) -> KeyNumber:
    metric = group.catalog.describe(one.metric)
    words = f"{metric.title} at generation {one.generation}, {one.arm} − {one.baseline}"
    number = formatting.mean(one.final, signed=True)
    return KeyNumber(group.roles[one.arm], number, metric.unit, words, certainty(one))


def certainty(one: Difference) -> str:
    """The CI, and whether the difference is significant."""
    bounds = formatting.interval(one.final, signed=True)
    if not bounds:
        return "one seed: no CI"
    verdict = "significant" if one.is_significant else "not significant"
    if bounds == formatting.EQUAL_SEEDS:
        return f"{bounds}: {verdict}{' (sign test)' if one.final.mean else ''}"
    if one.is_significant:
        return f"95 % CI {bounds}: significant"
    corrected = f" after correction for {one.comparisons} arms" if one.excludes_zero and one.comparisons > 1 else ""
    return f"95 % CI {bounds}: not significant{corrected}"
