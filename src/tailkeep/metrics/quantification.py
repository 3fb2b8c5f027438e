"""The share of one component in a mixture of two, from counts in bins: maximum likelihood, interval, goodness of fit.

Rule: the counts of both components are samples too, so every resample draws all three.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailkeep.metrics.intervals import check_level

Numbers = NDArray[np.float64]

ZERO_RESAMPLES = 2000
_HALVINGS = 40
# The whole range, dense at both ends, and standard errors around the estimate.
_GRID = np.sin(np.pi / 2 * np.linspace(0, 1, 13)) ** 2
_ERRORS = np.linspace(-3, 3, 13)
_TIE = 1e-9


class MixtureFit(NamedTuple):
    """A share in [0, 1] with its interval.

    Attributes:
        share: the maximum-likelihood estimate.
        low, high: the bounds of its interval.
        zero_p: the one-sided p-value of the hypothesis that the share is 0.
        fit_p: the p-value of the goodness of fit: small if no mixture of the two explains the counts.
    """

    share: float
    low: float
    high: float
    zero_p: float
    fit_p: float


def mixture_share(counts: ArrayLike, background: ArrayLike, component: ArrayLike) -> Numbers:
    """The maximum-likelihood share a (...) of `component` in a mixture (1 - a) background + a component.

    The log-likelihood sum_b c_b ln((1 - a) p_b + a q_b) is concave in a, so its derivative is halved to the root.

    Args:
        counts: (..., B) counts in bins.
        background, component: (..., B) positive probabilities of the bins.
    """
    c, p, q = (np.asarray(values, np.float64) for values in (counts, background, component))
    difference = q - p
    low, high = np.zeros(c.shape[:-1]), np.ones(c.shape[:-1])

    def slope_at(share: Numbers) -> Numbers:
        return np.asarray((c * difference / (p + share[..., None] * difference)).sum(axis=-1))

    begin, end = slope_at(low), slope_at(high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_rising = slope_at(middle) > 0
        low, high = np.where(is_rising, middle, low), np.where(is_rising, high, middle)
    return np.where(begin <= 0, 0.0, np.where(end >= 0, 1.0, (low + high) / 2))


def fit_mixture(
    counts: ArrayLike,
    background: ArrayLike,
    component: ArrayLike,
    *,
    design_effects: tuple[float, float] = (1.0, 1.0),
    level: float = 0.9,
    resamples: int = 400,
    zero_resamples: int = ZERO_RESAMPLES,
    seed: int = 0,
) -> MixtureFit:
    """The share of `component` among the documents with `counts`, with an interval that holds at 0 and at 1 too.

    The interval inverts tests (Neyman 1937). For each share of a grid, corpora of as many documents are sampled from
    the mixture, both components are resampled, and the share is estimated again; a share is in the interval unless the
    observed estimate lies in one tail of (1 - level) / 2 of these. A bootstrap of the estimate is too short at 0.

    Args:
        counts: (B,) documents of the corpus in bins.
        background, component: (B,) documents of the two references in the same bins, none of which is empty in both.
            One document, spread like both references together, is added to each, so that no bin is empty in one.
        design_effects: of documents of the background and of the component that are not independent: the variance of
            a mean over that of as many independent ones (Kish 1965). Resamples have so many times fewer documents.
        level: the level of the interval.
        resamples: per share of the grid.
        zero_resamples: for the hypothesis that the share is 0, whose p-value is at least 1 / (zero_resamples + 1).
        seed: of the resamples.

    Raises:
        ValueError: one of the three has no document, a bin is empty in both references, or `level` is not between 0
            and 1.
    """
    check_level(level)
    c, p_counts, q_counts = (np.asarray(values, np.int64) for values in (counts, background, component))
    if min(int(side.sum()) for side in (c, p_counts, q_counts)) < 1:
        raise ValueError("counts, background and component must each have a document.")
    pooled = (p_counts / p_counts.sum() + q_counts / q_counts.sum()) / 2
    if not pooled.all():
        raise ValueError(f"bin {int(pooled.argmin())} is empty in both references. Join it with its neighbour.")
    p, q = _smoothed(p_counts, pooled), _smoothed(q_counts, pooled)
    share = float(mixture_share(c, p, q))
    rng = np.random.default_rng(seed)
    p_size, q_size = (
        max(1, round(float(side.sum()) / effect))
        for side, effect in zip((p_counts, q_counts), design_effects, strict=True)
    )

    def resample(shares: Numbers, number: int, p: Numbers = p) -> tuple[Numbers, Numbers]:
        """Estimates (S, number) and deviances (S, number) of resampled corpora with these `shares` (S,)."""
        size = (len(shares), number)
        both = [
            _smoothed(rng.multinomial(number_of, probabilities, size), pooled)
            for number_of, probabilities in ((p_size, p), (q_size, q))
        ]
        mixed = p + shares[:, None] * (q - p)
        effects = (1 - shares) * design_effects[0] + shares * design_effects[1]
        totals = np.maximum(np.round(c.sum() / effects), 1).astype(np.int64)
        sampled_counts = rng.multinomial(totals[:, None], mixed[:, None, :], size)
        estimates = mixture_share(sampled_counts, *both)
        # A deviance of n dependent documents is the effect times that of as many independent ones (Rao and Scott 1981).
        deviances = _deviance(sampled_counts, both[0] + estimates[..., None] * (both[1] - both[0]))
        return estimates, deviances * effects[:, None]

    estimates, deviances = resample(np.array([share]), resamples)
    error = max(float(estimates.std()), 1 / float(c.sum()))
    grid = np.unique(np.clip([*_GRID, *(share + error * _ERRORS)], 0, 1))
    fit_p = _p_value(deviances[0] >= float(_deviance(c, p + share * (q - p))) - _TIE)
    estimates, _ = resample(grid, resamples)
    above = np.maximum.accumulate((estimates >= share - _TIE).mean(axis=1))
    below = np.minimum.accumulate((estimates <= share + _TIE).mean(axis=1))
    tail = (1 - level) / 2
    low = min(_crossing(grid, above, tail), share)
    high = max(_crossing(grid[::-1], below[::-1], tail), share)
    # At a share of 0 the corpus is another sample of the background, so both say what that is.
    zeros, _ = resample(np.zeros(1), zero_resamples, _smoothed(c + p_counts, pooled))
    return MixtureFit(share, low, high, _p_value(zeros[0] >= share - _TIE), fit_p)


def _smoothed(counts: NDArray[np.int64], pooled: Numbers) -> Numbers:
    return np.asarray((counts + pooled) / (counts.sum(axis=-1, keepdims=True) + 1))


def _crossing(grid: Numbers, tail_shares: Numbers, tail: float) -> float:
    """Where on `grid` (G,) the ascending `tail_shares` (G,) pass `tail`: at its begin if they begin above it."""
    first = int(np.argmax(tail_shares > tail))
    if first == 0:
        return float(grid[0])
    return float(np.interp(tail, tail_shares[first - 1 : first + 1], grid[first - 1 : first + 1]))


def _deviance(counts: NDArray[np.int64], probabilities: Numbers) -> Numbers:
    """The likelihood-ratio statistic 2 sum_b c_b ln(c_b / (n p_b)) of `counts` (..., B)."""
    expected = counts.sum(axis=-1, keepdims=True) * probabilities
    logs = np.log(np.where(counts > 0, counts, 1) / np.where(counts > 0, expected, 1))
    return np.asarray(2 * (counts * logs).sum(axis=-1))


def _p_value(is_extreme: NDArray[np.bool_]) -> float:
    return float((1 + is_extreme.sum()) / (1 + len(is_extreme)))
