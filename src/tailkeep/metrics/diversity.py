"""Diversity of samples: repetition, coverage of rare types, modes of a mixture, self-BLEU and the Vendi score.

Rules: a share is reported with what an equally large real sample would give, or depends on the sample's size and says
so: compare samples of one size only. An n-gram never crosses from one sequence into the next.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.spatial.distance import cdist
from scipy.special import gammaln

from tailkeep.metrics.divergence import ngram_counts


def distinct_n(sequences: Iterable[ArrayLike], n: int) -> float:
    """Distinct n-grams divided by all n-grams of `sequences`, integer sequences of any lengths (Li et al. 2016).

    Between 0 and 1; it falls as the number of n-grams grows, so compare samples of the same size only.
    NaN when no sequence is as long as `n`.

    Raises:
        ValueError: `n` is below 1.
    """
    counts = ngram_counts(sequences, (), n)[0]
    return counts.size / int(counts.sum()) if counts.size else math.nan


# Coverage of rare types, by their count in the real text. Any sample misses rare types, so the coverage stands beside
# that of an equally large real sample.


BAND_STARTS = (1, 2, 4, 11, 101)
"""Where the bands begin: types that occur once, 2-3 times, 4-10, 11-100 and more than 100 times."""


class CoverageBand(NamedTuple):
    """Types that occur `first` to `last` times (None: and more) in the real text.

    `types` is their number, `covered` the share of them in the sample, and `expected` the expected share in equally
    many items sampled from the real text. Both are NaN in a band without types.
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
    """The bands of the `real` counts by type (v,), and their coverage by the `sample` counts (v,).

    With N real items and n in the sample, a type that occurs c times in the real text occurs among n of the N items,
    sampled without replacement, with probability 1 - C(N - c, n) / C(N, n). That assumes evenly spread items: bursty
    words, concentrated in few documents, occur a little less often.

    Args:
        firsts: where the bands begin, ascending.

    Raises:
        ValueError: the shapes differ, a count is negative or not whole, the sample has more items than the real text,
            or `firsts` do not increase from 1 or more.
    """
    real_counts, sample_counts = _counts(real), _counts(sample)
    size, total = int(sample_counts.sum()), int(real_counts.sum())
    if real_counts.shape != sample_counts.shape:
        raise ValueError(f"counts of shapes {real_counts.shape} and {sample_counts.shape}. Pass the same types.")
    if size > total:
        raise ValueError(f"the sample has {size} items, the real text {total}. Pass a smaller sample.")
    if list(firsts) != sorted(set(firsts)) or not firsts or firsts[0] < 1:
        raise ValueError(f"bands that begin at {list(firsts)}. Give whole numbers from 1 upward, in order.")
    probabilities = _coverage_probabilities(real_counts, size)
    bands = []
    for first, last in zip(firsts, [*(following - 1 for following in firsts[1:]), None], strict=True):
        inside = (real_counts >= first) & (real_counts <= (total if last is None else last))
        types = int(inside.sum())
        covered = float((sample_counts[inside] > 0).mean()) if types else math.nan
        expected = float(probabilities[inside].mean()) if types else math.nan
        bands.append(CoverageBand(first, last, types, covered, expected))
    return bands


def _coverage_probabilities(real_counts: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """The probability (v,) that a sample of `size` real items holds each type."""
    total = int(real_counts.sum())
    others = total - real_counts
    # With fewer than `size` other items the type cannot be missed.
    missable = others >= size
    unsampled = np.where(missable, others - size, 0)
    log_missed = gammaln(others + 1) - gammaln(unsampled + 1) - gammaln(total + 1) + gammaln(total - size + 1)
    return np.asarray(np.where(missable, -np.expm1(np.minimum(log_missed, 0.0)), 1.0))


def _counts(values: ArrayLike) -> NDArray[np.int64]:
    counts = np.asarray(values)
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ValueError("counts must be one whole number >= 0 per type.")
    return counts.astype(np.int64)


# Modes of a mixture with known centres and weights. A point belongs to its nearest centre, the first among equals.


def assign_modes(points: ArrayLike, centres: ArrayLike) -> NDArray[np.int64]:
    """For each of `points` (n, d) the index of the nearest of `centres` (k, d), by Euclidean distance; shape (n,).

    Raises:
        ValueError: the dimensions differ, or there is no centre.
    """
    return np.asarray(_distances(points, centres).argmin(axis=1), dtype=np.int64)


def mode_shares(points: ArrayLike, centres: ArrayLike, *, radius: float = np.inf) -> NDArray[np.float64]:
    """The share of `points` (n, d) that belong to each of `centres` (k, d) and lie within `radius` of it; shape (k,).

    With a finite radius the shares sum to less than 1 if points lie near no centre. All are 0 for no points.

    Raises:
        ValueError: the dimensions differ, there is no centre, or the radius is not positive.
    """
    if not radius > 0:
        raise ValueError(f"radius must be > 0, got {radius}.")
    distances = _distances(points, centres)
    near = distances.min(axis=1) <= radius
    counts = np.bincount(distances.argmin(axis=1)[near], minlength=distances.shape[1])
    return counts / max(len(distances), 1)


MODE_SHARE = 0.2
"""A mode is alive from this share of its true weight on."""


def modes_alive(
    points: ArrayLike, centres: ArrayLike, weights: ArrayLike, *, radius: float, share: float = MODE_SHARE
) -> int:
    """How many modes are alive in `points` (n, d).

    A mode of `weights` (k,) is alive if at least a share `share` * (its true weight) of all points belong to its centre
    and lie within `radius` of it.

    Raises:
        ValueError: the dimensions or lengths differ, the weights are invalid, or radius or share is not positive.
    """
    if not share > 0:
        raise ValueError(f"share must be > 0, got {share}: at 0 dead modes would count as alive.")
    shares = mode_shares(points, centres, radius=radius)
    true = _normalised(weights)
    if true.shape != shares.shape:
        raise ValueError(f"{shares.size} centres and {true.size} weights. Pass one weight per centre.")
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
        raise ValueError(f"weights must be finite, >= 0 and not all 0, got {values.tolist()}.")
    return np.asarray(values / values.sum(), dtype=np.float64)


# Sampling by weight, with logarithms of weights. An item without weight is never sampled.


def sample_by_weight(
    log_weights: NDArray[np.float64], size: int, rng: np.random.Generator, *, max_repeats: int = 1
) -> NDArray[np.int64]:
    """`size` indices in ascending order, sampled without replacement from `max_repeats` copies of each item.

    Gumbel top-k: the largest ln w + Gumbel noise. The first is i with probability w_i / sum w, the next is sampled
    likewise from the rest. If too few items have a weight for that, each item gets as many copies as necessary.

    Args:
        log_weights: (n,) natural logarithms, -inf for an item without weight; at least one is finite.
        size: how many, at least 0.
    """
    candidates = np.flatnonzero(log_weights > -np.inf)
    assert len(candidates), "an item with a weight"
    copies = np.repeat(candidates, max(max_repeats, math.ceil(size / len(candidates))))
    keys = log_weights[copies] + rng.gumbel(size=len(copies))
    return np.sort(copies[np.argsort(-keys, kind="stable")[:size]])


def effective_size(log_weights: NDArray[np.float64]) -> float:
    """Kish's effective sample size of weights (n,), (sum w)^2 / sum w^2, from 1 to n."""
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / (weights**2).sum())


def top_log_weights(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Log-weights (n,): ln 1 for the `size` highest values and ln 0 for the rest; ties in order of index."""
    log_weights = np.full(len(values), -np.inf)
    log_weights[np.argsort(-values, kind="stable")[:size]] = 0.0
    return log_weights


_EPSILON = 0.1


def self_bleu(samples: Sequence[Sequence[Hashable]], *, order: int = 4) -> float:
    """The mean BLEU of each sample with all others as its references (Zhu et al. 2018, arXiv 1802.01886).

    1 if every sample has `order` words or more and occurs twice, near 0 if no two share words. BLEU is the published
    one (Papineni et al. 2002) with equal weights to `order` and its brevity penalty; a precision of 0 becomes 0.1 / its
    number of n-grams (method 1 of Chen and Cherry 2014). NaN with fewer than two samples that are not empty.

    Args:
        samples: sequences of words.
    """
    texts = [tuple(sample) for sample in samples if len(sample)]
    if len(texts) < 2:
        return math.nan
    log_precisions = np.mean([_log_precisions(texts, n) for n in range(1, order + 1)], axis=0)
    return float(np.mean(np.exp(log_precisions + _log_brevity([len(text) for text in texts]))))


def vendi_score(samples: Sequence[Sequence[Hashable]], *, orders: Sequence[int] = (1, 2, 3, 4)) -> float:
    """The effective number of different samples (Friedman and Dieng 2023, arXiv 2210.02410).

    exp of the entropy of the eigenvalues of K / n, where K (n, n) is the cosine similarity of n-gram counts, averaged
    over `orders`: 1 if all samples are alike, n if no two share a word. A sample without n-grams is like itself alone.
    NaN without samples.

    Args:
        samples: sequences of words.
    """
    if not samples:
        return math.nan
    similarity = np.mean([_cosine(samples, n) for n in orders], axis=0)
    shares = np.linalg.eigvalsh(similarity / len(samples))
    shares = shares[shares > 1e-12]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _ngrams(text: Sequence[Hashable], n: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(zip(*(text[offset:] for offset in range(n)), strict=False))


def _log_precisions(texts: Sequence[Sequence[Hashable]], n: int) -> list[float]:
    """ln of each text's share of n-grams that another text has, each at most as often as the one that has it most."""
    counts = [_ngrams(text, n) for text in texts]
    # The two highest counts of each n-gram, and whose the highest is: that of the others follows for every text.
    best: dict[tuple[Hashable, ...], tuple[int, int, int]] = {}
    for owner, grams in enumerate(counts):
        for gram, count in grams.items():
            first, second, holder = best.get(gram, (0, 0, -1))
            best[gram] = (count, first, owner) if count > first else (first, max(second, count), holder)
    logs = []
    for owner, grams in enumerate(counts):
        clipped = 0
        for gram, count in grams.items():
            first, second, holder = best[gram]
            clipped += min(count, second if holder == owner else first)
        total = max(1, sum(grams.values()))
        logs.append(math.log((clipped or _EPSILON) / total))
    return logs


def _log_brevity(lengths: Sequence[int]) -> list[float]:
    """ln of each text's brevity penalty against the nearest length of another text, the shorter of two as near."""
    ordered = sorted(lengths)
    penalties = []
    for length in lengths:
        # Its neighbours in the order are the nearest; of equal lengths the first is the text itself.
        place = bisect_left(ordered, length)
        others = [*ordered[max(0, place - 1) : place], *ordered[place + 1 : place + 2]]
        nearest = min(others, key=lambda other: (abs(other - length), other))
        penalties.append(min(0.0, 1 - nearest / length))
    return penalties


def _cosine(samples: Sequence[Sequence[Hashable]], n: int) -> np.ndarray:
    counts = [_ngrams(tuple(sample), n) for sample in samples]
    columns: dict[tuple[Hashable, ...], int] = {}
    rows, cols, values = [], [], []
    for row, grams in enumerate(counts):
        for gram, count in grams.items():
            rows.append(row)
            cols.append(columns.setdefault(gram, len(columns)))
            values.append(float(count))
    table = sparse.csr_matrix((values, (rows, cols)), shape=(len(samples), max(1, len(columns))))
    norms = np.sqrt(np.asarray(table.multiply(table).sum(axis=1)).ravel())
    inner = (table @ table.T).toarray() / np.maximum(np.outer(norms, norms), 1e-300)
    np.fill_diagonal(inner, 1.0)
    return np.asarray(inner)
