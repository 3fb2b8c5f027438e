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
    """The change of `metric` in `arm`; None where generation 0 or the last common one is missing."""
    series, last = group.series(arm, metric), group.common_generation
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


def is_better(one: Difference, better: Better, change: Change | None = None) -> bool:
    """Whether the difference goes in the good direction `better`, or without one back to generation 0."""
    if better:
        return (one.final.mean > 0) == (better == "higher")
    return change is not None and one.final.mean * change.change.mean < 0


def write_verdict(group: ArmGroup, summary: GroupSummary) -> str:
    """The verdict without a grid, in at most 25 words: the baseline's change, and what each other arm makes of it."""
    if group.common_generation in {None, 0} and max(group.generations(), default=0) > 0:
        return "Not all arms have got beyond generation 0, so there is nothing to compare yet."
    mains = group.catalog.main_metrics(group.names)
    changes = {metric: baseline_change(group, group.arms[0], metric) for metric in mains}
    lead = _lead(group, changes)
    if not group.compared_arms:
        return lead
    better, worse, neither = _sorted_arms(group, summary, mains, changes)
    if not better and not worse and max((one.seeds for one in summary.differences), default=0) < 2:
        return _joined([lead, "One seed: no difference can be called significant."])
    collapses = any(change.is_worse for change in _significant(changes))
    for listed in range(_MAX_LISTED, 0, -1):
        text = _joined([lead, _clauses(group, better, worse, neither, listed, summary, changes, collapses=collapses)])
        if len(text.split()) <= _MAX_WORDS:
            return text
    return text


def _joined(sentences: Sequence[str]) -> str:
    return " ".join(filter(None, sentences))


def _lead(group: ArmGroup, changes: dict[str, Change | None]) -> str:
    known = [change for change in changes.values() if change]
    if not known:
        return ""
    regime = (group.configs.get(group.arms[0], {}).get("regime") or {}).get("name", "replace")
    start = (
        f"Trained on its own {words_of(group.learner).samples}, the model"
        if regime in {"replace", "select"}
        else f"Under {group.arms[0]} the model"
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


def _significant(changes: dict[str, Change | None]) -> list[Change]:
    """The changes that are significant after Holm's correction for all of them; none where a p-value is missing."""
    known = [change for change in changes.values() if change and math.isfinite(change.p_value)]
    corrected = holm_correction([change.p_value for change in known])
    return [change for change, p in zip(known, corrected, strict=True) if p < ALPHA]


def _sorted_arms(
    group: ArmGroup, summary: GroupSummary, mains: Sequence[str], changes: dict[str, Change | None]
) -> tuple[list[str], list[str], list[str]]:
    better: list[str] = []
    worse: list[str] = []
    neither: list[str] = []
    for arm in group.compared_arms:
        rows = [one for one in summary.differences if one.arm == arm and one.metric in mains and one.is_significant]
        good = [is_better(one, group.catalog.describe(one.metric).better, changes[one.metric]) for one in rows]
        (better if rows and all(good) else worse if rows and not any(good) else neither).append(arm)
    return better, worse, neither


def _clauses(
    group: ArmGroup,
    better: Sequence[str],
    worse: Sequence[str],
    neither: Sequence[str],
    listed: int,
    summary: GroupSummary,
    changes: dict[str, Change | None],
    *,
    collapses: bool,
) -> str:
    parts = []
    if better:
        names = _names(group, better, listed)
        single = len(better) == 1
        if collapses:
            share = "most" if all(_prevents_most(group, arm, summary, changes) for arm in better) else "some"
            parts.append(f"{names} prevent{'s' if single else ''} {share} of it")
        else:
            parts.append(f"{names} {'is' if single else 'are'} significantly better")
    if worse:
        parts.append(f"{_names(group, worse, listed)} make{'s' if len(worse) == 1 else ''} it significantly worse")
    if neither:
        verb = "makes" if len(neither) == 1 else "make"
        parts.append(f"{_names(group, neither, listed)} {verb} no significant difference")
    sentence = "; ".join(parts)
    # A phrase begins with a capital; the name of an arm keeps its case.
    is_phrase = _subject(group, (*better, *worse, *neither)[0])
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


def _prevents_most(group: ArmGroup, arm: str, summary: GroupSummary, changes: Mapping[str, Change | None]) -> bool:
    """Whether `arm` prevents significantly more than half of the baseline's change, by each significant metric."""
    for one in summary.differences:
        change = changes.get(one.metric)
        if one.arm != arm or not one.is_significant or not (change and change.is_significant):
            continue
        sign = -math.copysign(1.0, change.change.mean)
        baseline, final = group.series(one.baseline, one.metric), group.series(arm, one.metric)
        beyond_half = [
            sign * (final[seed][one.generation] - (baseline[seed][0] + baseline[seed][one.generation]) / 2)
            for seed in sorted(baseline.keys() & final.keys())
        ]
        if sum(beyond_half) <= 0 or not paired_p_value(beyond_half) < ALPHA:
            return False
    return True


def key_numbers(group: ArmGroup, summary: GroupSummary) -> tuple[KeyNumber, ...]:
    """What the baseline loses, the largest significant difference, and the difference of another compared arm."""
    mains = group.catalog.main_metrics(group.names)
    numbers = []
    names = dict.fromkeys([*mains, *summary.metrics])
    changes = {metric: baseline_change(group, group.arms[0], metric) for metric in names}
    main_changes = {metric: changes[metric] for metric in mains}
    # The change that the verdict speaks of.
    worse = [change for change in _significant(main_changes) if change.is_worse]
    if change := next(iter(worse), main_changes.get(mains[0]) if mains else None):
        numbers.append(_loss_number(group, change))
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
        numbers += [_loss_number(group, change) for change in more if change][:2]
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


def _loss_number(group: ArmGroup, change: Change) -> KeyNumber:
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
    words = f"{metric.title} of {group.arms[0]}, generation 0 to {group.common_generation}"
    return KeyNumber(group.roles[group.arms[0]], f"{first} → {last}", metric.unit, words, "; ".join(parts))


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
    if one.is_significant:
        return f"95 % CI {bounds}: significant"
    if bounds == formatting.EQUAL_SEEDS:
        return f"{bounds}: not significant{' (sign test)' if one.final.mean else ''}"
    corrected = f" after correction for {one.comparisons} arms" if one.excludes_zero else ""
    return f"95 % CI {bounds}: not significant{corrected}"
