"""What a histogram of counts, or many of them side by side, says of concentration and distance.

Rule: cells lie along the first axis, (v,) or (v, k); the result has the shape of what is left. Logarithms are natural.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]


def entropy(counts: ArrayLike) -> Numbers:
    """-sum p ln p in nats of counts (v, ...); ln v if all cells hold as much. NaN without any count."""
    shares = _shares(counts)
    return np.asarray(-_times_log(shares, shares).sum(axis=0))


def gini(counts: ArrayLike) -> Numbers:
    """The Gini coefficient of counts (v, ...), empty cells among them: 0 if equal, (v - 1) / v if one holds all."""
    ordered = np.sort(_checked(counts), axis=0)
    cells = len(ordered)
    ranks = np.arange(1, cells + 1).reshape(-1, *[1] * (ordered.ndim - 1))
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * (ranks * ordered).sum(axis=0) / (cells * ordered.sum(axis=0)) - (cells + 1) / cells)


def top_share(counts: ArrayLike, cells: int) -> Numbers:
    """The share of all counts (v, ...) that lies in the `cells` fullest.

    Raises:
        ValueError: `cells` is below 1.
    """
    if cells < 1:
        raise ValueError(f"the share of {cells} cells. Give at least 1.")
    values = _checked(counts)
    cells = min(cells, len(values))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.partition(values, -cells, axis=0)[-cells:].sum(axis=0) / values.sum(axis=0))


def js_divergence(p_counts: ArrayLike, q_counts: ArrayLike) -> Numbers:
    """The Jensen-Shannon divergence in nats of two histograms (v, ...): 0 if equal, ln 2 without a common cell."""
    p, q = _shares(p_counts), _shares(q_counts)
    middle = (p + q) / 2
    half = _times_log(p, p) + _times_log(q, q) - 2 * _times_log(middle, middle)
    return np.asarray(np.maximum(half.sum(axis=0) / 2, 0.0))


def smoothed_kl(p_counts: ArrayLike, q_counts: ArrayLike, *, smoothing: float) -> Numbers:
    """KL(p || q) in nats of two histograms (v, ...), `smoothing` > 0 added to each cell of both.

    Raises:
        ValueError: `smoothing` is not above 0.
    """
    if not smoothing > 0:
        raise ValueError(f"smoothing of {smoothing}. Give a number above 0.")
    p, q = _shares(_checked(p_counts) + smoothing), _shares(_checked(q_counts) + smoothing)
    return np.asarray((p * (np.log(p) - np.log(q))).sum(axis=0))


def unseen_mass(counts: ArrayLike) -> Numbers:
    """The share of items whose type occurs once, of counts (v, ...) by type.

    By Good and Turing (Good 1953) it estimates the probability that the next item is of a type not seen before.
    """
    values = _checked(counts)
    with np.errstate(invalid="ignore"):
        return np.asarray((values == 1).sum(axis=0) / values.sum(axis=0))


def distinct_share(counts: ArrayLike) -> Numbers:
    """Types divided by items, of counts (v, ...) by type; it falls with the number of items."""
    values = _checked(counts)
    with np.errstate(invalid="ignore"):
        return np.asarray((values > 0).sum(axis=0) / values.sum(axis=0))


def zipf_slope(ordered: ArrayLike, *, first: int = 10, last: int = 1000) -> float:
    """The slope of ln count over ln rank between two ranks, of counts (v,) in descending order; about -1 in prose.

    Least squares with weights 1 / rank, so that each factor of the rank counts alike. The most frequent words, which
    are grammar, and the staircase of rare ones stay out. NaN with fewer than three ranks.
    """
    values = _checked(ordered)[first - 1 : last]
    values = values[values > 0]
    if len(values) < 3:
        return float("nan")
    ranks = np.arange(first, first + len(values), dtype=np.float64)
    return float(np.polyfit(np.log(ranks), np.log(values), 1, w=1 / np.sqrt(ranks))[0])


def _shares(counts: ArrayLike) -> Numbers:
    values = _checked(counts)
    with np.errstate(invalid="ignore"):
        return np.asarray(values / values.sum(axis=0))


def _checked(counts: ArrayLike) -> Numbers:
    values = np.asarray(counts, dtype=np.float64)
    if values.ndim == 0 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("no histogram of counts. Give numbers from 0 upward along the first axis.")
    return values


def _times_log(weights: Numbers, shares: Numbers) -> Numbers:
    """weight times ln share, 0 where the share is."""
    return np.asarray(weights * np.log(np.where(shares > 0, shares, 1.0)))
