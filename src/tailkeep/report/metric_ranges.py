"""The interval of a metric's mean over seeds, inside the metric's possible range.

Rule: no band, bar or table shows a value that the metric cannot take.
"""

import math
from collections.abc import Sequence

from tailkeep.metrics import Interval, mean_interval, positive_interval, share_interval
from tailkeep.runs.metric import Metric


def limits_of(metric: Metric, total: float = math.nan) -> tuple[float, float]:
    """The lowest and the highest possible value; `total` is the highest count."""
    match metric.range:
        case "share":
            return 0.0, 1.0
        case "count":
            return 0.0, total if math.isfinite(total) else math.inf
        case "positive":
            return 0.0, math.inf
        case "any":
            return -math.inf, math.inf


def seed_interval(metric: Metric, values: Sequence[float], total: float = math.nan) -> Interval:
    """The mean of `values`, one per seed, with its 95 % CI inside the possible range.

    Shares and counts have Student's t on the logit scale, positive metrics on the logarithmic one, others as they are.
    Values that are on the edge of their range in every seed have no width; an unexpected one gives plain Student's t.
    """
    kind, (low, high) = metric.range, limits_of(metric, total)
    finite = all(map(math.isfinite, values))
    if kind == "count" and finite and math.isfinite(high) and high > 0 and all(0 <= value <= high for value in values):
        mean, lower, upper = share_interval([value / high for value in values])
        return Interval(mean * high, lower * high, upper * high)
    if kind == "share" and finite and all(low <= value <= high for value in values):
        return share_interval(values)
    if kind == "positive" and finite and all(value > 0 for value in values):
        return positive_interval(values)
    plain = mean_interval(values)
    if all(low <= value <= high for value in values) and math.isfinite(plain.low):
        return Interval(plain.mean, max(plain.low, low), min(plain.high, high))
    return plain


def difference_interval(metric: Metric, values: Sequence[float]) -> Interval:
    """The mean of paired differences with Student's t, cut off at what two shares can differ by."""
    plain = mean_interval(values)
    if metric.range != "share" or not math.isfinite(plain.low):
        return plain
    return Interval(plain.mean, max(plain.low, -1.0), min(plain.high, 1.0))
