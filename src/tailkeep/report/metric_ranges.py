"""The possible range of each metric, and the interval of its mean over seeds inside that range.

Rule: no band, bar or table shows a value that the metric cannot take.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from tailkeep.metrics import Interval, mean_interval, positive_interval, share_interval
from tailkeep.report.metric_catalog import split_view

Range = Literal["share", "count", "positive", "any"]

TOTALS: Mapping[str, str] = {
    "people_named": "people_total",
    "modes_alive": "modes_total",
    "classes_alive": "classes_total",
}
"""Counts, and the metric that holds the largest count possible."""

_SHARES = frozenset(
    [
        *("kr_accuracy", "kr_sum", "kr_mean", "kr_plain", "member_kr_mean", "member_kr_best", "valid_share"),
        *("true_share", "held_out_above_90", "held_out_above_99", "above_99", "flagged_share", "changed_share"),
        *("replayed_share", "replayed_share_so_far", "expected_loss", "expected_loss_replayed"),
        *("selected_share", "accepted_share", "detector_accuracy", "candidate_true_share", "selected_true_share"),
        *("kept_fraction", "dropped_share", "guarded_share", "recall", "precision", "coverage", "weight_distance"),
        *("classifier_accuracy", "distinct_1", "distinct_2", "distinct_3", "distinct_4"),
    ]
)
_POSITIVE = frozenset(
    [
        *("own_perplexity", "rare_fact_coverage", "common_fact_coverage", "rare_phrasing_coverage", "std_median"),
        *("std_mean", "variance_mean", "latent_std", "frechet", "mean_abs_median", "kl_model_real_median"),
        *("sliced_wasserstein", "test_error", "bound_ratio", "closed_form_ratio", "decay_bound_ratio", "mean_length"),
        *("kl_sample_real", "kl_real_sample", "decoder_temperature", "temperature", "rare_fact_coverage_outside"),
    ]
)
_SHARE_PREFIXES = ("coverage_", "kr_fraction_", "downstream.")
REFERENCES: Mapping[str, tuple[float, str]] = {
    "kr_accuracy": (0.5, "guessing, 0.50"),
    "kr_fraction_0": (0.5, "guessing, 0.50"),
    "rare_fact_coverage": (1.0, "real documents, 1"),
    "std_median": (1.0, "real data, 1"),
    "bound_ratio": (1.0, "the bound, 1"),
}
"""Values that a figure marks by a dotted line, with their label."""


def range_of(name: str) -> Range:
    """The possible range of a metric: 0 to 1, 0 to a total, above 0, or any number."""
    bare = split_view(name)[1]
    if bare in TOTALS:
        return "count"
    is_part = bare.endswith(".items") or (bare.startswith("downstream.") and bare.count(".") > 1)
    if bare in _SHARES or (bare.startswith(_SHARE_PREFIXES) and not is_part):
        return "share"
    return "positive" if bare in _POSITIVE or (bare.startswith("kl_") and bare != "kl_real_model") else "any"


def limits_of(name: str, total: float = math.nan) -> tuple[float, float]:
    """The lowest and the highest possible value; `total` is the highest count."""
    match range_of(name):
        case "share":
            return 0.0, 1.0
        case "count":
            return 0.0, total if math.isfinite(total) else math.inf
        case "positive":
            return 0.0, math.inf
        case "any":
            return -math.inf, math.inf


def seed_interval(name: str, values: Sequence[float], total: float = math.nan) -> Interval:
    """The mean of `values`, one per seed, with its 95 % CI inside the possible range.

    Shares and counts have Student's t on the logit scale, positive metrics on the logarithmic one, others as they are.
    Values that are on the edge of their range in every seed have no width; an unexpected one gives plain Student's t.
    """
    kind, (low, high) = range_of(name), limits_of(name, total)
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


def difference_interval(name: str, values: Sequence[float]) -> Interval:
    """The mean of paired differences with Student's t, cut off at what two shares can differ by."""
    plain = mean_interval(values)
    if range_of(name) != "share" or not math.isfinite(plain.low):
        return plain
    return Interval(plain.mean, max(plain.low, -1.0), min(plain.high, 1.0))


_UNITS: Mapping[str, str] = {
    "held_out_nll": "nats/token",
    "held_out_nll_tempered": "nats/token",
    "train_nll": "nats/token",
    "kl_sample_real": "nats",
    "kl_real_sample": "nats",
    "kl_model_real_median": "nats",
    "kl_real_model": "nats",
    "mixture_gain": "nats/token",
    "class_entropy": "nats",
    "mean_length": "tokens",
    "people_named": "people",
    "modes_alive": "modes",
    "classes_alive": "classes",
}


def unit_of(name: str, learner: str = "causal_lm") -> str:
    """The unit of a metric, empty for a share or a ratio."""
    unit = _UNITS.get(split_view(name)[1], "")
    return unit if learner == "causal_lm" else unit.replace("/token", "/point")
