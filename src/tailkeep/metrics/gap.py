"""The gap between how sure a model is of its own text and of real text, and the threshold that follows from it.

Rule: nothing but confidences comes in, so no reported measure can be tuned on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    sides = [_checked(documents, name) for documents, name in ((real, "real"), (own, "own"))]
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


def _checked(documents: Sequence[ArrayLike], name: str) -> list[Logs]:
    rows = [np.asarray(row, dtype=np.float64).ravel() for row in documents]
    rows = [row for row in rows if row.size]
    if not rows:
        raise ValueError(f"the {name} text has no token. Give at least one document.")
    wrong = next((float(row[~(row <= 1e-3)][0]) for row in rows if not (row <= 1e-3).all()), None)
    if wrong is not None:
        raise ValueError(f"the log-probability {wrong} is no logarithm of a probability. Give values up to 0.")
    return rows
