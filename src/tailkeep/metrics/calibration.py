"""Confidence of a model in the tokens of a text: histograms, temperature scaling, and the confidence gap.

Rule: inputs are log-probabilities in nats, pooled over any shape; NaN is an error. A temperature is never evaluated on
the tokens it was fitted to, and the confidence gap uses confidences only, so no reported metric can be tuned on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDING = 1e-3
"""A log-probability at most this far above 0 is rounding: bfloat16 and float16 carry three digits."""


LOGIT_EDGES = tuple(-7 + step / 2 for step in range(43))
"""-7 to 14 in steps of 0.5: p from 0.0009 to 0.9999992. Of twenty equal bins of p the last would hold all change."""


def confidence_histogram(log_probs: ArrayLike, *, edges: Sequence[float] = LOGIT_EDGES) -> NDArray[np.int64]:
    """The number of tokens in each bin of the logit of their probability, ln p - ln(1 - p); shape (bins,).

    A bin includes its lower edge and excludes its upper one. A logit beyond the first or last edge counts in the bin
    beside it, so every token counts.

    Raises:
        ValueError: a log-probability is NaN or above 0, or `edges` are fewer than two or do not ascend.
    """
    limits = np.asarray(edges, dtype=np.float64)
    if limits.size < 2 or (np.diff(limits) <= 0).any():
        raise ValueError(f"edges must be at least two ascending numbers, got {list(edges)}.")
    values = np.minimum(_flatten(log_probs), 0.0)
    with np.errstate(divide="ignore"):
        logits = values - np.log(-np.expm1(values))
    bins = np.clip(np.searchsorted(limits, logits, side="right") - 1, 0, limits.size - 2)
    return np.bincount(bins, minlength=limits.size - 1).astype(np.int64)


def share_above(log_probs: ArrayLike, threshold: float) -> float:
    """The share of tokens whose probability is above `threshold`: those that a truncated loss drops.

    NaN for no tokens.

    Raises:
        ValueError: a log-probability is NaN or above 0, or `threshold` is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], got {threshold}.")
    values = np.minimum(_flatten(log_probs), 0.0)
    with np.errstate(divide="ignore"):
        limit = np.log(threshold)
    return float(np.mean(values > limit)) if values.size else float("nan")


def worst_decile_mean(nll: ArrayLike) -> float:
    """The mean of the largest tenth of `nll` (n,), at least one value: what the tail of the text costs a model.

    NaN where there is none.
    """
    values = np.sort(np.asarray(nll, dtype=np.float64).ravel())
    return float(values[-math.ceil(values.size / 10) :].mean()) if values.size else math.nan


def perplexity(log_probs: ArrayLike) -> float:
    """exp of the mean negative log-probability: 1 for a text predicted with certainty. NaN for no tokens.

    Raises:
        ValueError: a log-probability is NaN or above 0.
    """
    values = np.minimum(_flatten(log_probs), 0.0)
    with np.errstate(over="ignore"):
        return float(np.exp(-values.mean())) if values.size else float("nan")


def _flatten(log_probs: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(log_probs, dtype=np.float64).ravel()
    invalid = values[~(values <= _ROUNDING)]
    if invalid.size:
        raise ValueError(f"log-probabilities must be <= 0, got {invalid[0]}.")
    return values


# The one parameter of temperature scaling (Guo et al., arXiv 1706.04599): p_T(y) is proportional to p(y)^(1/T).


TEMPERATURES = tuple(float(2 ** (step / 2)) for step in range(-4, 5))
"""1/4 to 4 in steps of a factor sqrt(2). The NLL is convex in 1/T and nearly a parabola in ln T around its minimum,
which three points at this distance locate within a percent."""


def fit_temperature(nll: ArrayLike, temperatures: Sequence[float] = TEMPERATURES) -> float:
    """The temperature of the lowest `nll` (k,), by a parabola in ln T through the lowest value and its neighbors.

    The first or last temperature if its value is the lowest; NaN if a value is not finite.

    Raises:
        ValueError: the lengths differ, there are fewer than three, or the temperatures do not ascend from above 0.
    """
    values = np.asarray(nll, dtype=np.float64).ravel()
    if len(values) != len(temperatures) or len(values) < 3:
        raise ValueError(
            f"{len(values)} NLLs at {len(temperatures)} temperatures. Pass one NLL per temperature, at least three."
        )
    if temperatures[0] <= 0 or any(after <= before for before, after in pairwise(temperatures)):
        raise ValueError(f"the temperatures {list(temperatures)} do not ascend from above 0. Sort them.")
    if not np.isfinite(values).all():
        return float("nan")
    lowest = int(values.argmin())
    if lowest in (0, len(values) - 1):
        return float(temperatures[lowest])
    x = np.log(np.asarray(temperatures[lowest - 1 : lowest + 2], dtype=np.float64))
    y = values[lowest - 1 : lowest + 2]
    # Divided differences: the slope at the middle point and the curvature of the parabola through all three.
    lower, upper = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    curvature = (upper - lower) / (x[2] - x[0])
    if curvature <= 0:
        return float(temperatures[lowest])
    middle = lower + curvature * (x[1] - x[0])
    return float(np.exp(np.clip(x[1] - middle / (2 * curvature), x[0], x[2])))


# The gap between a model's confidence in its own samples and in real text, and the threshold that follows from it.


_MIN_ERRORS = 4.0
"""The gap is significant above this many standard errors. It is a maximum, which by chance exceeds z errors once in
exp(z^2 / 2) times (Smirnov's limit): once in 90 times for 3, once in 3000 for 4."""

Logs = NDArray[np.float64]


@dataclass(frozen=True)
class ConfidenceGap:
    """The confidences of real and generated text compared.

    Attributes:
        gap: the share of generated tokens with a probability above `crossing`, minus that of real tokens.
        crossing: the probability at which that difference is largest; NaN if generated text is nowhere more confident.
        error: the standard error of the gap, over documents.
        threshold: the probability above which a share `gap` of the generated tokens lies; 1 without significant gap.
    """

    gap: float
    crossing: float
    error: float
    threshold: float


def confidence_gap(real: Sequence[ArrayLike], generated: Sequence[ArrayLike]) -> ConfidenceGap:
    """The automatic threshold: drop as many high-confidence tokens as generated text has in excess of real text.

    Let S(t) be the share of tokens with a probability above t. gap = max over t of S_gen(t) - S_real(t), the one-sided
    Kolmogorov-Smirnov distance; at the crossing t_x, where it is reached, the two densities meet, and above it
    generated text has more mass than real text. The threshold solves S_gen(threshold) = gap, so that

        share of generated tokens between t_x and threshold = share of real tokens above t_x:

    truncation keeps as many high-confidence tokens as real text has. The threshold is never below the crossing. A gap
    below four standard errors (over documents, since tokens of one document correlate) gives 1: nothing is truncated.

    Args:
        real: ln p of the tokens of real documents that the model was not trained on, one array per document.
        generated: the same for documents sampled from the model.

    Raises:
        ValueError: a side has no token, or a value is not a log-probability.
    """
    sides = [_nonempty(documents, name) for documents, name in ((real, "real"), (generated, "generated"))]
    pooled_real, pooled_generated = (np.sort(np.concatenate(side)) for side in sides)
    points = np.concatenate([pooled_real, pooled_generated])
    excess = _share_above(pooled_generated, points) - _share_above(pooled_real, points)
    widest = int(excess.argmax())
    gap, crossing = float(excess[widest]), float(points[widest])
    if gap <= 0:
        return ConfidenceGap(0.0, math.nan, math.nan, 1.0)
    error = math.hypot(*(_standard_error(side, crossing) for side in sides))
    log_threshold = 0.0
    if gap > _MIN_ERRORS * error:
        # Without real tokens above the crossing all generated ones there are in excess.
        log_threshold = max(crossing, _upper_quantile(pooled_generated, gap))
    return ConfidenceGap(gap, math.exp(min(crossing, 0.0)), error, math.exp(min(log_threshold, 0.0)))


def _share_above(ordered: Logs, points: Logs) -> Logs:
    """The share of `ordered` values above each point."""
    return 1 - np.searchsorted(ordered, points, side="right") / len(ordered)


def _upper_quantile(ordered: Logs, share: float) -> float:
    """The lowest value that no more than `share` of the values lie above; minus infinity if all may."""
    index = len(ordered) - 1 - math.floor(share * len(ordered) + 1e-9)
    return float(ordered[index]) if index >= 0 else -math.inf


def _standard_error(documents: list[Logs], point: float) -> float:
    """The standard error of the share above `point`, a ratio of sums over documents; infinite for one document."""
    if len(documents) < 2:
        return math.inf
    sizes = np.array([len(row) for row in documents], dtype=np.float64)
    above = np.array([np.count_nonzero(row > point) for row in documents], dtype=np.float64)
    residuals = above - sizes * (above.sum() / sizes.sum())
    return float(np.sqrt(len(sizes) / (len(sizes) - 1) * np.sum(residuals**2)) / sizes.sum())


def _nonempty(documents: Sequence[ArrayLike], name: str) -> list[Logs]:
    rows = [row for row in map(_flatten, documents) if row.size]
    if not rows:
        raise ValueError(f"the {name} text has no token. Pass at least one document.")
    return rows
