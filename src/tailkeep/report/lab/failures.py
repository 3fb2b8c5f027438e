"""Time to failure as a figure: when each arm passes the limit of each rule.

Rule: a time that was not reached by the last generation is an arrow, never a number.
"""

import math
from collections.abc import Sequence

from tailkeep.report import formatting
from tailkeep.report.lab.curves import marker_sizes
from tailkeep.report.lab.run import ArmGroup
from tailkeep.report.lab.stats import FailureRule, FailureSummary, GroupSummary
from tailkeep.report.svg import WIDTH, Figure, label, linear, marker, path, text, tick_texts, ticks

_LEFT, _RIGHT, _ROW = 158.0, 390.0, 20.0
_MAX_RULES = 3


def plot_failures(group: ArmGroup, summary: GroupSummary, arms: Sequence[str], name: str) -> Figure | None:
    """The median time to failure of `arms` with its bootstrap CI, one block per rule; None where nothing has one."""
    last = max(group.generations())
    rows_of = {arm.arm: arm.failures for arm in summary.arms if arm.arm in arms}
    rules = [rule for rule in summary.rules if any(_is_defined(row[rule.key]) for row in rows_of.values())][:_MAX_RULES]
    if not rules or last == 0:
        return None
    x = linear((0, last), (_LEFT, _RIGHT))
    sizes = marker_sizes(list(rows_of), group.roles)
    parts: list[str] = []
    y, findings = 14.0, []
    for rule in rules:
        parts.append(text(0, y, _sentence(rule), "row"))
        bottom = y + 8 + _ROW * len(rows_of)
        values = [value for value in ticks(0, last, 5) if float(round(value, 9)).is_integer()]
        parts += [path([(x(value), y + 8), (x(value), bottom)], "grid") for value in values]
        for index, (arm, failures) in enumerate(rows_of.items()):
            middle = y + 18 + _ROW * index
            role = group.roles[arm]
            parts.append(text(0, middle + 4.5, label(arm, 18), f"sig {role.css}"))
            failure = failures[rule.key]
            words = _words(failure)
            parts.append(_bar(group, arm, failure, x, middle, sizes[arm]))
            parts.append(text(WIDTH, middle + 4.5, words, "num", "end"))
            findings.append(f"{arm}, {rule.condition}: {words}")
        y = bottom + 28
    for value, word in zip(values, tick_texts(values), strict=True):
        parts.append(text(x(value), y - 10, word, "tick", "middle"))
    parts.append(text((_LEFT + _RIGHT) / 2, y + 8, "generation", "axis", "middle"))
    seeds = max(len(arm.seeds) for arm in summary.arms)
    undefined = any(not _is_defined(failures[rule.key]) for failures in rows_of.values() for rule in rules)
    dash = f" {formatting.DASH}: not measured, or beyond the limit at generation 0." if undefined else ""
    bounds = "; bar: bootstrap CI over seeds" if seeds > 1 else ""
    median = f"Median over {formatting.seeds(seeds)}, interpolated between recorded generations"
    note = f"{median}{bounds}. Arrow: not reached.{dash}"
    title = "Time to failure"
    return Figure(name, title, note, f"{title}. {'; '.join(findings)}.", y + 14, "".join(parts))


def _sentence(rule: FailureRule) -> str:
    return rule.condition[0].upper() + rule.condition[1:]


def _is_defined(failure: FailureSummary) -> bool:
    return math.isfinite(failure.time)


def _words(failure: FailureSummary) -> str:
    if not _is_defined(failure):
        return formatting.DASH
    return formatting.failure(failure)


def _bar(group: ArmGroup, arm: str, failure: FailureSummary, x: object, y: float, size: float) -> str:
    role = group.roles[arm]
    if not _is_defined(failure) or not callable(x):
        return ""
    parts = []
    low, high = failure.bounds.low, failure.bounds.high
    if math.isfinite(low) and not math.isnan(high):
        end = x(min(high, x_limit(group)))
        parts.append(path([(x(low), y), (end, y)], f"whisk {role.css}"))
    if failure.censored or math.isinf(high):
        edge = x(x_limit(group))
        start = x(failure.time)
        parts.append(path([(start, y), (edge, y)], f"whisk {role.css}"))
        parts.append(f'<path class="arrow {role.css}" d="M{edge + 9:.1f} {y:.1f}l-9 -4.5v9z"/>')
    if not failure.censored:
        parts.append(marker(role, x(failure.time), y, size=size))
    return "".join(parts)


def x_limit(group: ArmGroup) -> float:
    """The last generation of the figure."""
    return float(max(group.generations()))
