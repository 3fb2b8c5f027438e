"""Conditions on the figures of an audit, such as `share > 0.05`, for continuous integration.

Rule: a metric with an interval meets a condition only if its whole interval does; a metric without a value is an error.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tailkeep.errors import ConfigError, InputError

_FORM = re.compile(r"\s*([a-z0-9_]+)\s*(>=|<=|>|<)\s*(\S+)\s*")
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


@dataclass(frozen=True)
class MetricValue:
    """The value of a metric with its interval, of no width for one that is counted."""

    value: float
    low: float
    high: float


def _share(summary: Mapping[str, Any]) -> MetricValue:
    share = summary.get("share")
    if share is None:
        raise ConfigError("--fail-if share needs --reference and --synthetic. Give both references.")
    if share["share"] is None:
        raise InputError(f"--fail-if share: no share is named: {share['refusal']}.")
    return MetricValue(share["share"], share["low"], share["high"])


def _flagged(summary: Mapping[str, Any]) -> MetricValue:
    comparison = summary.get("comparison")
    if comparison is None:
        raise InputError(
            "--fail-if flagged: nothing was tested. Give a --reference and enough documents of both sides."
        )
    number = float(sum(test["flagged"] for test in comparison["tests"]))
    return MetricValue(number, number, number)


def _figure(name: str, option: str) -> Callable[[Mapping[str, Any]], MetricValue]:
    def read(summary: Mapping[str, Any]) -> MetricValue:
        value = summary["input"].get(name)
        if value is None:
            raise InputError(f"--fail-if {name}: the audit has no such figure. Give {option}.")
        return MetricValue(value, value, value)

    return read


METRICS: Mapping[str, Callable[[Mapping[str, Any]], MetricValue]] = {
    "share": _share,
    "flagged": _flagged,
    "exact_duplicates_share": _figure("exact_duplicates_share", "documents"),
    "near_duplicates_share": _figure("near_duplicates_share", "--near-duplicates"),
    "repeated_4grams_share": _figure("repeated_4grams_share", "documents of four words and more"),
}
"""What a condition can be about, and how it is read from a summary."""


@dataclass(frozen=True)
class Condition:
    """`metric` compared with `number`, as the user wrote it in `text`."""

    text: str
    metric: str
    comparison: str
    number: float

    def is_met(self, summary: Mapping[str, Any]) -> bool:
        """Whether the metric's whole interval meets the condition: its lower end above, its upper end below.

        Raises:
            InputError: the metric has no value, such as a share that is refused.
            ConfigError: the audit has no such metric.
        """
        measured = METRICS[self.metric](summary)
        bound = measured.low if self.comparison.startswith(">") else measured.high
        return _OPERATORS[self.comparison](bound, self.number)


def parse_condition(text: str) -> Condition:
    """The condition that `text` says, METRIC (> < >= <=) NUMBER.

    Raises:
        ConfigError: it says none.
    """
    match = _FORM.fullmatch(text)
    known = ", ".join(METRICS)
    if not match:
        raise ConfigError(f"--fail-if {text!r} is no condition. Write METRIC > NUMBER (or <, >=, <=); METRIC: {known}.")
    metric, comparison, number = match.groups()
    if metric not in METRICS:
        raise ConfigError(f"--fail-if {text!r}: unknown metric {metric!r}. Use one of {known}.")
    try:
        return Condition(text.strip(), metric, comparison, float(number))
    except ValueError:
        raise ConfigError(f"--fail-if {text!r}: {number!r} is no number. Write one, such as 0.05.") from None
