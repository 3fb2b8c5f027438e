"""How sure a model is of the tokens in a text.

Rule: log-probabilities come in, in nats and of any shape; they are pooled, and NaN among them is an error.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDING = 1e-3
"""A log-probability this far above 0 is still rounding: bfloat16 and float16 carry three digits."""


def confidence_histogram(log_probs: ArrayLike, *, bins: int = 20) -> NDArray[np.int64]:
    """How many tokens have a probability in each of `bins` equal parts of [0, 1]; shape (bins,).

    A part holds its lower edge and not its upper one, but the last holds 1. The edges are `linspace(0, 1, bins + 1)`.

    Raises:
        ValueError: a log-probability is NaN or above 0, or `bins` is below 1.
    """
    if bins < 1:
        raise ValueError(f"a histogram of {bins} bins. Give at least 1.")
    counts, _ = np.histogram(np.exp(_checked(log_probs)), bins=bins, range=(0.0, 1.0))
    return counts.astype(np.int64)


def share_above(log_probs: ArrayLike, threshold: float) -> float:
    """The share of tokens whose probability is above `threshold`: those that a truncated loss would drop.

    NaN for no tokens.

    Raises:
        ValueError: a log-probability is NaN or above 0, or `threshold` is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"the threshold is {threshold}. Give a probability from 0 to 1.")
    values = _checked(log_probs)
    with np.errstate(divide="ignore"):
        limit = np.log(threshold)
    return float(np.mean(values > limit)) if values.size else float("nan")


def perplexity(log_probs: ArrayLike) -> float:
    """exp of the mean negative log-probability: 1 for a text foreseen with certainty. NaN for no tokens.

    Raises:
        ValueError: a log-probability is NaN or above 0.
    """
    values = _checked(log_probs)
    with np.errstate(over="ignore"):
        return float(np.exp(-values.mean())) if values.size else float("nan")


def _checked(log_probs: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(log_probs, dtype=np.float64).ravel()
    wrong = values[~(values <= _ROUNDING)]
    if wrong.size:
        raise ValueError(f"the log-probability {wrong[0]} is no logarithm of a probability. Give values up to 0.")
    return np.minimum(values, 0.0)


# The one parameter of temperature scaling (Guo et al., arXiv 1706.04599): p_T(y) is proportional to p(y)^(1/T).
#
# Rule: the temperature is fitted on other tokens than those it is judged on; `cross_fitted` swaps two halves.


TEMPERATURES = tuple(float(2 ** (step / 2)) for step in range(-4, 5))
"""1/4 to 4 by factors of the square root of 2. The NLL is convex in 1/T, and nearly a parabola in ln T around its
lowest point, which three points of this distance find to within a percent."""


def fit_temperature(nll: ArrayLike, temperatures: Sequence[float] = TEMPERATURES) -> float:
    """The temperature of the lowest `nll` (k,), by the parabola in ln T through the lowest value and its neighbours.

    The first or last temperature where that is the lowest; NaN if a value is not finite.

    Raises:
        ValueError: the lengths differ, there are fewer than three, or the temperatures are not above 0 and ascending.
    """
    values = np.asarray(nll, dtype=np.float64).ravel()
    if len(values) != len(temperatures) or len(values) < 3:
        raise ValueError(
            f"{len(values)} NLLs at {len(temperatures)} temperatures. Give one for each, of three or more."
        )
    if temperatures[0] <= 0 or any(after <= before for before, after in pairwise(temperatures)):
        raise ValueError(f"the temperatures {list(temperatures)} do not ascend from above 0. Give them in order.")
    if not np.isfinite(values).all():
        return float("nan")
    lowest = int(values.argmin())
    if lowest in (0, len(values) - 1):
        return float(temperatures[lowest])
    x = np.log(np.asarray(temperatures[lowest - 1 : lowest + 2], dtype=np.float64))
    y = values[lowest - 1 : lowest + 2]
    # Divided differences: the slope at the middle point and the curvature of the parabola through all three.
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    curvature = (right - left) / (x[2] - x[0])
    if curvature <= 0:
        return float(temperatures[lowest])
    middle = left + curvature * (x[1] - x[0])
    return float(np.exp(np.clip(x[1] - middle / (2 * curvature), x[0], x[2])))


# The gap between how sure a model is of its own text and of real text, and the threshold that follows from it.
#
# Rule: nothing but confidences comes in, so no reported measure can be tuned on.


_ERRORS = 4.0
"""A gap counts from this many standard errors on. Its place is chosen as the widest, which chance alone makes wider
than z errors once in exp(z^2 / 2) times (Smirnov's limit): once in 90 times for 3, once in 3000 for 4."""

Logs = NDArray[np.float64]


@dataclass(frozen=True)
class ConfidenceGap:
    """What the confidences of two texts come to.

    Attributes:
        gap: how much larger the share of own tokens with a probability above `crossing` is than that of real ones.
        crossing: the probability at which that difference is largest. NaN if own text is nowhere surer.
        error: the standard error of the gap, over documents.
        threshold: the probability above which a share `gap` of the own tokens lies; 1 if the gap may be chance.
    """

    gap: float
    crossing: float
    error: float
    threshold: float


def confidence_gap(real: Sequence[ArrayLike], own: Sequence[ArrayLike]) -> ConfidenceGap:
    """The automatic threshold: drop as many sure tokens of its own text as the model has too many.

    Let S(t) be the share of tokens with a probability above t. gap = max over t of S_own(t) - S_real(t), the one-sided
    Kolmogorov-Smirnov distance; at the crossing t_x, where it is reached, the two densities meet, and above it own text
    has more mass than real text. The threshold solves S_own(threshold) = gap, so that

        share of own tokens between t_x and threshold = share of real tokens above t_x:

    what truncation keeps of the sure tokens is as many as real text has. It is never below the crossing. A gap below
    four standard errors, taken over documents since tokens of one hang together, gives 1: nothing is truncated.

    Args:
        real: ln p of the tokens of real documents that the model was not trained on, one array a document.
        own: the same of documents that the model wrote.

    Raises:
        ValueError: a side has no token, or a value is no log-probability.
    """
    sides = [_checked_rows(documents, name) for documents, name in ((real, "real"), (own, "own"))]
    pooled_real, pooled_own = (np.sort(np.concatenate(side)) for side in sides)
    places = np.concatenate([pooled_real, pooled_own])
    excess = _above(pooled_own, places) - _above(pooled_real, places)
    widest = int(excess.argmax())
    gap, crossing = float(excess[widest]), float(places[widest])
    if gap <= 0:
        return ConfidenceGap(0.0, math.nan, math.nan, 1.0)
    error = math.hypot(*(_error(side, crossing) for side in sides))
    log_threshold = _quantile(pooled_own, gap) if gap > _ERRORS * error else 0.0
    return ConfidenceGap(gap, math.exp(min(crossing, 0.0)), error, math.exp(min(log_threshold, 0.0)))


def _above(ordered: Logs, places: Logs) -> Logs:
    """The share of `ordered` values above each place."""
    return 1 - np.searchsorted(ordered, places, side="right") / len(ordered)


def _quantile(ordered: Logs, share: float) -> float:
    """The lowest value that no more than `share` of the values lie above."""
    return float(ordered[len(ordered) - 1 - math.floor(share * len(ordered) + 1e-9)])


def _error(documents: list[Logs], place: float) -> float:
    """The standard error of the share above `place`, a ratio of sums over documents; infinite for a single one."""
    if len(documents) < 2:
        return math.inf
    sizes = np.array([len(row) for row in documents], dtype=np.float64)
    above = np.array([np.count_nonzero(row > place) for row in documents], dtype=np.float64)
    left = above - sizes * (above.sum() / sizes.sum())
    return float(np.sqrt(len(sizes) / (len(sizes) - 1) * np.sum(left**2)) / sizes.sum())


def _checked_rows(documents: Sequence[ArrayLike], name: str) -> list[Logs]:
    rows = [np.asarray(row, dtype=np.float64).ravel() for row in documents]
    rows = [row for row in rows if row.size]
    if not rows:
        raise ValueError(f"the {name} text has no token. Give at least one document.")
    wrong = next((float(row[~(row <= 1e-3)][0]) for row in rows if not (row <= 1e-3).all()), None)
    if wrong is not None:
        raise ValueError(f"the log-probability {wrong} is no logarithm of a probability. Give values up to 0.")
    return rows
