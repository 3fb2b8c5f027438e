"""How much a text repeats itself.

Rule: an n-gram never crosses from one sequence into the next.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.special import gammaln


def distinct_n(sequences: Iterable[ArrayLike], n: int) -> float:
    """Distinct n-grams divided by all n-grams of `sequences`, integer sequences of any lengths (Li et al. 2016).

    Between 0 and 1; it falls as the number of n-grams grows, so compare samples of the same size only.
    NaN when no sequence is as long as `n`.

    Raises:
        ValueError: `n` is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}. Give at least 1.")
    arrays = [np.asarray(sequence, dtype=np.int64).ravel() for sequence in sequences]
    lengths = np.array([array.size for array in arrays], dtype=np.int64)
    total = int(np.maximum(lengths - n + 1, 0).sum())
    if total == 0:
        return float("nan")
    return _distinct(np.concatenate(arrays), _starts(lengths, n), n) / total


def _starts(lengths: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Where, in the joined sequences, an n-gram that lies within one of them begins."""
    ends = np.cumsum(lengths)
    room = np.repeat(ends, lengths) - np.arange(ends[-1])
    return np.flatnonzero(room >= n)


def _distinct(tokens: NDArray[np.int64], starts: NDArray[np.int64], n: int) -> int:
    """The number of different n-grams that begin at `starts`."""
    ranks = np.unique(tokens, return_inverse=True)[1].astype(np.int64)
    size = int(ranks.max()) + 1
    # A prefix is named by its rank among the prefixes, so a code stays below len(starts) * size at any n.
    codes = ranks[starts]
    for offset in range(1, n):
        codes = np.unique(codes * size + ranks[starts + offset], return_inverse=True)[1].astype(np.int64)
    return int(np.unique(codes).size)


# How much of the tail a sample keeps, by how rare a type is in the real text.
#
# Rule: a share is read beside what an equally large real sample would cover, since any sample misses rare types.


BAND_STARTS = (1, 2, 4, 11, 101)
"""Where the bands begin: types that occur once, 2-3 times, 4-10, 11-100 and more than 100 times."""


class CoverageBand(NamedTuple):
    """Types that occur `first` to `last` times (None: and more) in the real text.

    `types` counts them, `covered` is the share of them that occur in the sample, and `expected` the share that would
    occur in as many items drawn from the real text. Both are NaN in a band without types.
    """

    first: int
    last: int | None
    types: int
    covered: float
    expected: float

    @property
    def name(self) -> str:
        """`1`, `2_3`, `over_100`."""
        if self.last is None:
            return f"over_{self.first - 1}"
        return str(self.first) if self.first == self.last else f"{self.first}_{self.last}"


def band_coverage(real: ArrayLike, sample: ArrayLike, *, firsts: Sequence[int] = BAND_STARTS) -> list[CoverageBand]:
    """The bands of the `real` counts by type (v,), and what of each the `sample` counts (v,) hold.

    With N real items and n in the sample, a type that occurs c times in the real text is expected in n of the N items,
    drawn without replacement, with the probability 1 - C(N - c, n) / C(N, n). That holds for items that are spread
    evenly: words that come in bursts, few documents holding them all, are met a little less often.

    Args:
        firsts: where the bands begin, ascending.

    Raises:
        ValueError: the shapes differ, a count is negative or not whole, the sample has more items than the real text,
            or `firsts` do not increase from 1 or more.
    """
    there, found = _counts(real), _counts(sample)
    if there.shape != found.shape:
        raise ValueError(f"counts of shapes {there.shape} and {found.shape}. Give both the same types.")
    if found.sum() > there.sum():
        raise ValueError(f"a sample of {found.sum()} items of {there.sum()}. Give at most as many as the real text.")
    if list(firsts) != sorted(set(firsts)) or not firsts or firsts[0] < 1:
        raise ValueError(f"bands that begin at {list(firsts)}. Give whole numbers from 1 upward, in order.")
    chances = _chances(there, int(found.sum()))
    lasts = [*(following - 1 for following in firsts[1:]), None]
    return [_band(first, last, there, found, chances) for first, last in zip(firsts, lasts, strict=True)]


def _band(
    first: int, last: int | None, there: NDArray[np.int64], found: NDArray[np.int64], chances: NDArray[np.float64]
) -> CoverageBand:
    inside = there >= first if last is None else (there >= first) & (there <= last)
    types = int(inside.sum())
    if not types:
        return CoverageBand(first, last, 0, float("nan"), float("nan"))
    return CoverageBand(first, last, types, float((found[inside] > 0).mean()), float(chances[inside].mean()))


def _chances(there: NDArray[np.int64], drawn: int) -> NDArray[np.float64]:
    total = int(there.sum())
    others = total - there
    # Fewer other items than are drawn: the type cannot be missed.
    missable = others >= drawn
    left = np.where(missable, others - drawn, 0)
    log_missed = gammaln(others + 1) - gammaln(left + 1) - gammaln(total + 1) + gammaln(total - drawn + 1)
    return np.asarray(np.where(missable, -np.expm1(np.minimum(log_missed, 0.0)), 1.0))


def _counts(values: ArrayLike) -> NDArray[np.int64]:
    counts = np.asarray(values)
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ValueError("no counts by type. Give whole numbers from 0 upward, one a type.")
    return counts.astype(np.int64)


# What a sample keeps of a mixture whose centres and weights are known.
#
# Rule: a point belongs to its nearest centre, the first of several at the same distance.


def assign_modes(points: ArrayLike, centres: ArrayLike) -> NDArray[np.int64]:
    """For each of `points` (n, d) the index of the nearest of `centres` (k, d), by Euclidean distance; shape (n,).

    Raises:
        ValueError: the dimensions differ, or there is no centre.
    """
    return np.asarray(_distances(points, centres).argmin(axis=1), dtype=np.int64)


def mode_shares(points: ArrayLike, centres: ArrayLike, *, radius: float = np.inf) -> NDArray[np.float64]:
    """The share of `points` (n, d) that belong to each of `centres` (k, d) and lie within `radius` of it; shape (k,).

    With a finite radius the shares sum to less than 1 by what lies near no centre. All are 0 for no points.

    Raises:
        ValueError: the dimensions differ, there is no centre, or the radius is not positive.
    """
    if not radius > 0:
        raise ValueError(f"the radius is {radius}. Give a number above 0.")
    distances = _distances(points, centres)
    near = distances.min(axis=1) <= radius
    counts = np.bincount(distances.argmin(axis=1)[near], minlength=distances.shape[1])
    return counts / max(len(distances), 1)


def modes_alive(points: ArrayLike, centres: ArrayLike, weights: ArrayLike, *, radius: float, share: float = 0.2) -> int:
    """How many modes still live in `points` (n, d).

    A mode of `weights` (k,) lives if at least `share` times its true weight of all points belong to its centre and
    lie within `radius` of it.

    Raises:
        ValueError: the dimensions or lengths differ, the weights are no weights, or radius or share is not positive.
    """
    if not share > 0:
        raise ValueError(f"the share is {share}. Give a number above 0, or dead modes would count as alive.")
    shares = mode_shares(points, centres, radius=radius)
    true = _normalised(weights)
    if true.shape != shares.shape:
        raise ValueError(f"{shares.size} centres and {true.size} weights. Give one weight for each centre.")
    return int(np.count_nonzero((shares >= share * true) & (shares > 0)))


def total_variation(weights: ArrayLike, others: ArrayLike) -> float:
    """The total variation distance between two sets of weights (k,), half the sum of |a - b|, each normalised first.

    Between 0 (the same) and 1 (nothing shared).

    Raises:
        ValueError: the lengths differ, or one is negative, not finite or sums to 0.
    """
    a, b = _normalised(weights), _normalised(others)
    if a.shape != b.shape:
        raise ValueError(f"{a.size} weights and {b.size} weights. Give two sets of the same length.")
    return float(0.5 * np.abs(a - b).sum())


def _distances(points: ArrayLike, centres: ArrayLike) -> NDArray[np.float64]:
    a, b = np.asarray(points, dtype=np.float64), np.asarray(centres, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or len(b) == 0:
        raise ValueError(f"points of shape {a.shape} and centres of shape {b.shape}. Give (n, d) and (k, d).")
    return np.asarray(cdist(a, b), dtype=np.float64)


def _normalised(weights: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(weights, dtype=np.float64).ravel()
    if not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
        raise ValueError(f"{values.tolist()} are no weights. Give numbers from 0 upward, not all 0.")
    return np.asarray(values / values.sum(), dtype=np.float64)


# Drawing by weight, and how many draws a set of weights is worth. Weights are handed over as logarithms.
#
# Rule: a draw is a function of the weights and the generator, and what has no weight is never drawn.


def sample_by_weight(
    log_weights: NDArray[np.float64], size: int, rng: np.random.Generator, *, max_repeats: int = 1
) -> NDArray[np.int64]:
    """`size` indices in ascending order, drawn without replacement from `max_repeats` copies of each item.

    The largest of ln w + a Gumbel number each (Gumbel top-k): the first is i with the chance w_i / sum w, the next is
    drawn likewise from what is left. Where too few items have a weight for that, there are as many copies of each as
    it takes.

    Args:
        log_weights: (n,) natural logarithms, -inf for an item without weight; at least one is finite.
        size: how many, at least 0.
    """
    able = np.flatnonzero(log_weights > -np.inf)
    assert len(able), "an item with a weight"
    owners = np.repeat(able, max(max_repeats, math.ceil(size / len(able))))
    keys = log_weights[owners] + rng.gumbel(size=len(owners))
    return np.sort(owners[np.argsort(-keys, kind="stable")[:size]])


def effective_size(log_weights: NDArray[np.float64]) -> float:
    """(sum w)^2 / sum w^2 (Kish): how many equal weights (n,) are worth as much, from 1 to n."""
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / (weights**2).sum())


def top_log_weights(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """ln of the weights (n,) that are 1 for the `size` highest values and 0 for the rest; ties go by their place."""
    log_weights = np.full(len(values), -np.inf)
    log_weights[np.argsort(-values, kind="stable")[:size]] = 0.0
    return log_weights
