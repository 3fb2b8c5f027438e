"""Curves of a metric over the generations, and the choice of arms that fit into one picture.

Rule: a line is the mean over seeds and its band their 95 % CI; both have a point only where every seed of the arm has
a finite value.
"""

import math
from collections.abc import Mapping, Sequence

from tailkeep.metrics import Interval
from tailkeep.report import formatting
from tailkeep.report.charts import Axis, Series, line_chart
from tailkeep.report.lab.paired_differences import Difference
from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.lab.stats import entry_interval
from tailkeep.report.metric_catalog import companion_of, describe, split_view
from tailkeep.report.metric_ranges import REFERENCES, TOTALS, limits_of, range_of, unit_of
from tailkeep.report.roles import Role
from tailkeep.report.svg import Figure

MAX_ARMS, MAX_OF_ROLE, _MAX_BANDS = 8, 4, 4
_SIZES = (1.0, 0.72, 1.3, 0.5)

Curve = Mapping[int, Interval]
"""The mean over seeds by generation."""


def curve_of(group: ArmGroup, arm: str, metric: str) -> dict[int, Interval]:
    """The mean of each generation that all seeds of the arm have finished, with its CI."""
    by_generation: dict[int, list[Entry]] = {}
    for entry in group.entries_of(arm):
        by_generation.setdefault(entry.generation, []).append(entry)
    seeds = len({entry.seed for entry in group.entries_of(arm)})
    return {
        generation: entry_interval(metric, [entry.metrics for entry in rows])
        for generation, rows in sorted(by_generation.items())
        if len(rows) == seeds
    }


def arms_in_picture(
    group: ArmGroup, differences: Sequence[Difference], metric: str, *, most: int = MAX_ARMS
) -> tuple[str, ...]:
    """The arms that one picture shows: all, or the first and those that differ most from their baseline in `metric`.

    At most `most`, and at most four of one role; in the order of the config.
    """
    by_size = sorted(
        (one for one in differences if one.metric == metric and math.isfinite(one.final.mean)),
        key=lambda one: (not one.is_significant, -abs(one.final.mean)),
    )
    ranked = [group.arms[0], *(one.arm for one in by_size)]
    ranked += [arm for arm in group.arms if arm not in ranked]
    counts: dict[str, int] = {}
    selected: list[str] = []
    for arm in ranked:
        role = group.roles[arm].css
        if len(selected) < most and counts.get(role, 0) < MAX_OF_ROLE:
            selected.append(arm)
            counts[role] = counts.get(role, 0) + 1
    return tuple(arm for arm in group.arms if arm in selected)


def marker_sizes(arms: Sequence[str], roles: Mapping[str, Role]) -> dict[str, float]:
    """The marker size of each arm: arms of one role differ in it."""
    counts: dict[str, int] = {}
    sizes = {}
    for arm in arms:
        index = counts.get(roles[arm].css, 0)
        counts[roles[arm].css] = index + 1
        sizes[arm] = _SIZES[index % len(_SIZES)]
    return sizes


def plot_curve(
    group: ArmGroup,
    metric: str,
    differences: Sequence[Difference],
    name: str,
    *,
    title: str = "",
    height: float = 300,
) -> Figure | None:
    """The curves of `metric`, one line per arm in the picture; None where no arm has a finite value."""
    arms = arms_in_picture(group, differences, metric)
    curves = {arm: curve_of(group, arm, metric) for arm in arms}
    curves = {arm: curve for arm, curve in curves.items() if any(math.isfinite(v.mean) for v in curve.values())}
    if not curves:
        return None
    sizes = marker_sizes(list(curves), group.roles)
    banded = _arms_with_band(list(curves), differences, metric)
    series = [_series(group, arm, metric, curve, sizes[arm], arm in banded) for arm, curve in curves.items()]
    known = describe(metric)
    ends = ", ".join(f"{one.label} {formatting.short(_first(one))} to {one.end}" for one in series)
    return line_chart(
        name,
        title or known.title,
        series,
        _axis(group, metric),
        note=_note(group, metric, curves, banded),
        finding=f"{known.title} by generation. {ends}.",
        height=height,
    )


def _series(group: ArmGroup, arm: str, metric: str, curve: Curve, size: float, banded: bool) -> Series:
    generations = list(curve)
    rows = list(curve.values())
    last = next((g for g in reversed(generations) if math.isfinite(curve[g].mean)), generations[-1])
    end = formatting.short(curve[last].mean)
    early = last != max(group.generations())
    companion = companion_of(metric)
    theory = curve_of(group, arm, companion[0]) if companion and companion[0] in group.names else {}
    return Series(
        label=arm,
        role=group.roles[arm],
        xs=generations,
        means=[row.mean for row in rows],
        lows=[row.low for row in rows],
        highs=[row.high for row in rows],
        end=f"{end} (gen. {last})" if early else end,
        size=size,
        theory=[theory[g].mean if g in theory else math.nan for g in generations] if theory else (),
        banded=banded,
    )


def _first(one: Series) -> float:
    return next(mean for mean in one.means if math.isfinite(mean))


def _arms_with_band(arms: Sequence[str], differences: Sequence[Difference], metric: str) -> set[str]:
    if len(arms) <= _MAX_BANDS:
        return set(arms)
    of_metric = [one for one in differences if one.metric == metric and one.arm in arms]
    finite = [one for one in of_metric if math.isfinite(one.final.mean)]
    return {arms[0], *(one.arm for one in sorted(finite, key=lambda one: -abs(one.final.mean))[:1])}


def _axis(group: ArmGroup, metric: str) -> Axis:
    view, bare = split_view(metric)
    total = ".".join(filter(None, [view, TOTALS.get(bare, "")]))
    known_total = next((e.metrics[total] for e in group.entries if total and total in e.metrics), math.nan)
    floor, ceiling = limits_of(metric, known_total)
    reference = REFERENCES.get(bare)
    references = (reference,) if reference else ()
    if bare in TOTALS and math.isfinite(known_total):
        references = ((known_total, f"all {known_total:g}"),)
    if bare.startswith("downstream.") and bare.count(".") == 1:
        chance = next((e.metrics[f"{bare}.chance"] for e in group.entries if f"{bare}.chance" in e.metrics), math.nan)
        references = ((chance, f"guessing, {chance:.2f}"),) if math.isfinite(chance) else ()
    unit = (
        unit_of(metric, group.learner) or {"share": "share", "any": "", "positive": "", "count": ""}[range_of(metric)]
    )
    if bare == "kr_accuracy":
        items = {e.metrics["kr_items"] for e in group.entries if "kr_items" in e.metrics}
        unit = f"share of {next(iter(items)):,.0f} questions answered correctly" if len(items) == 1 else unit
    return Axis(unit, floor, ceiling, describe(metric).log, references)


def _note(group: ArmGroup, metric: str, curves: Mapping[str, Curve], banded: set[str]) -> str:
    known = describe(metric)
    seeds = max(len({entry.seed for entry in group.entries_of(arm)}) for arm in curves)
    if seeds == 1:
        band = "One seed, so no band."
    else:
        where = "" if len(banded) == len(curves) else f" of {' and '.join(arm for arm in curves if arm in banded)}"
        kinds = {"share": " (Student t on the logit scale)", "count": " (Student t on the logit scale)"}
        kinds |= {"positive": " (Student t on the log scale)", "any": " (Student t)"}
        band = f"Line: mean of {seeds} seeds; band{where}: 95 % CI{kinds[range_of(metric)]}."
    few = (
        f"{len(curves)} of {len(group.arms)} arms: the first and those that differ most."
        if len(curves) < len(group.arms)
        else ""
    )
    companion = companion_of(metric)
    theory = f"Fine dots: {companion[1]}." if companion and companion[0] in group.names else ""
    better = f"{known.better.capitalize()} is better." if known.better else ""
    return " ".join(filter(None, [known.note, band, theory, few, better]))
