"""Divergences between distributions, statistics of histograms, and n-gram divergences; logarithms are natural.

Rule: the argument order is that of KL(p || q): p is evaluated against the reference q. A histogram has its cells along
the first axis, (v,) or (v, k), and a result has the shape of the other axes.
"""

import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wasserstein_distance


def unigram_counts(tokens: ArrayLike, vocab_size: int) -> NDArray[np.int64]:
    """How often each of `vocab_size` token ids occurs in `tokens` (any shape of integers); shape (vocab_size,).

    Raises:
        ValueError: a token id is outside the vocabulary, or not an integer.
    """
    flat = np.asarray(tokens).ravel()
    if flat.size == 0:
        return np.zeros(vocab_size, dtype=np.int64)
    if not np.issubdtype(flat.dtype, np.integer):
        raise ValueError(f"token ids must be integers, got {flat.dtype}.")
    lowest, highest = int(flat.min()), int(flat.max())
    if lowest < 0 or highest >= vocab_size:
        worst = lowest if lowest < 0 else highest
        raise ValueError(f"token id {worst} is outside the vocabulary of {vocab_size}. Give the tokenizer's full size.")
    return np.bincount(flat, minlength=vocab_size).astype(np.int64)


def kl_divergence(p_counts: ArrayLike, q_counts: ArrayLike, *, floor: float = 1e-10, smoothing: float = 0.0) -> float:
    """KL(p || q) = sum p ln(p / q) of two histograms (v,) over the same cells, each normalised first.

    An empty cell counts as `floor` in either histogram, without normalising again, as in ForTIFAI's published numbers
    (arXiv 2509.08972). With `floor=0` an empty cell of q under a filled one of p gives infinity. `smoothing` is added
    to every count before normalising; with any, no cell is empty and `floor` has no effect.
    A histogram without counts gives NaN.

    Raises:
        ValueError: the shapes differ, or a count, the floor or the smoothing is negative or not finite.
    """
    p = np.asarray(p_counts, dtype=np.float64)
    q = np.asarray(q_counts, dtype=np.float64)
    if p.shape != q.shape or p.ndim != 1:
        raise ValueError(f"histograms of shapes {p.shape} and {q.shape}. Give two of the same length.")
    for name, numbers in (("count", p), ("count", q), ("floor", floor), ("smoothing", smoothing)):
        if not (np.isfinite(numbers).all() and (np.asarray(numbers) >= 0).all()):
            raise ValueError(f"a {name} is negative or not finite. Give numbers from 0 upward.")
    p, q = p + smoothing, q + smoothing
    if p.sum() == 0 or q.sum() == 0:
        return float("nan")
    p, q = p / p.sum(), q / q.sum()
    p, q = np.where(p == 0, floor, p), np.where(q == 0, floor, q)
    filled = p > 0
    with np.errstate(divide="ignore"):
        return float(np.sum(p[filled] * (np.log(p[filled]) - np.log(q[filled]))))


def gaussian_kl(mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike) -> NDArray[np.float64]:
    """KL(p || q) of one-dimensional normal distributions, ln(s_q/s_p) + (s_p² + (m_p - m_q)²) / 2 s_q² - 1/2.

    All four broadcast; the result has their common shape. A standard deviation of 0 in one of the two gives
    infinity, in both 0 where the means agree and infinity where they do not.

    Raises:
        ValueError: a standard deviation is negative.
    """
    m_p, s_p, m_q, s_q = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (mean_p, std_p, mean_q, std_q)))
    if (s_p < 0).any() or (s_q < 0).any():
        raise ValueError("a standard deviation is negative. Give numbers from 0 upward.")
    # Ratios first: squares of a collapsed deviation such as 1e-200 would underflow.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ratio, shift = s_p / s_q, (m_p - m_q) / s_q
        divergence = 0.5 * (ratio**2 + shift**2 - 1) - np.log(ratio)
    points = np.where(m_p == m_q, 0.0, np.inf)
    collapsed = (s_p == 0) | (s_q == 0)
    result: NDArray[np.float64] = np.where(collapsed, np.where(s_p == s_q, points, np.inf), divergence)
    return result


# Statistics of histograms.


Numbers = NDArray[np.float64]


def entropy(counts: ArrayLike) -> Numbers:
    """-sum p ln p in nats of counts (v, ...); ln v if all cells are equal. NaN without any count."""
    shares = _shares(counts)
    return np.asarray(-_times_log(shares, shares).sum(axis=0))


def concentration(counts: ArrayLike, cells: int) -> tuple[Numbers, Numbers]:
    """The Gini coefficient of counts (v, ...) with empty cells, and the share of all counts in the `cells` largest.

    The coefficient is 0 if all cells are equal, and (v - 1) / v if one has all.

    Raises:
        ValueError: `cells` is below 1.
    """
    if cells < 1:
        raise ValueError(f"cells must be >= 1, got {cells}.")
    # Sorted for both: where most cells are empty, numpy's partition takes ten times as long.
    ordered = np.sort(_as_counts(counts), axis=0)
    size, total = len(ordered), ordered.sum(axis=0)
    ranks = np.arange(1, size + 1).reshape(-1, *[1] * (ordered.ndim - 1))
    with np.errstate(invalid="ignore"):
        unequal = 2 * (ranks * ordered).sum(axis=0) / (size * total) - (size + 1) / size
        return np.asarray(unequal), np.asarray(ordered[-min(cells, size) :].sum(axis=0) / total)


def _check_shapes(p: Numbers, q: Numbers) -> None:
    if p.shape != q.shape:
        raise ValueError(f"histograms of shapes {p.shape} and {q.shape}. Pass both over the same cells.")


def js_divergence(p_counts: ArrayLike, q_counts: ArrayLike) -> Numbers:
    """The Jensen-Shannon divergence in nats of two histograms (v, ...): 0 if equal, ln 2 without a common cell.

    Raises:
        ValueError: the shapes differ.
    """
    p, q = _shares(p_counts), _shares(q_counts)
    _check_shapes(p, q)
    middle = (p + q) / 2
    half = _times_log(p, p) + _times_log(q, q) - 2 * _times_log(middle, middle)
    return np.asarray(np.maximum(half.sum(axis=0) / 2, 0.0))


def smoothed_kl(p_counts: ArrayLike, q_counts: ArrayLike, *, smoothing: float) -> Numbers:
    """KL(p || q) in nats of two histograms (v, ...), `smoothing` > 0 added to each cell of both.

    Raises:
        ValueError: `smoothing` is not above 0, or the shapes differ.
    """
    if not smoothing > 0:
        raise ValueError(f"smoothing must be > 0, got {smoothing}.")
    p, q = _shares(_as_counts(p_counts) + smoothing), _shares(_as_counts(q_counts) + smoothing)
    _check_shapes(p, q)
    return np.asarray((p * (np.log(p) - np.log(q))).sum(axis=0))


def unseen_mass(counts: ArrayLike) -> Numbers:
    """The share of items whose type occurs once, of counts (v, ...) by type.

    The Good-Turing estimate (Good 1953) of the probability that the next item has an unseen type.
    """
    values = _as_counts(counts)
    with np.errstate(invalid="ignore"):
        return np.asarray((values == 1).sum(axis=0) / values.sum(axis=0))


def distinct_share(counts: ArrayLike) -> Numbers:
    """The type-token ratio of counts (v, ...) by type; it falls with the number of items."""
    values = _as_counts(counts)
    with np.errstate(invalid="ignore"):
        return np.asarray((values > 0).sum(axis=0) / values.sum(axis=0))


def zipf_slope(ordered: ArrayLike, *, first: int = 10, last: int = 1000) -> float:
    """The slope of ln count over ln rank between two ranks, of counts (v,) in descending order; about -1 in prose.

    Least squares with weights 1 / rank, so that equal factors of the rank count equally. The most frequent words, which
    are function words, and the staircase of rare ones are excluded. NaN with fewer than three ranks.
    """
    values = _as_counts(ordered)[first - 1 : last]
    values = values[values > 0]
    if len(values) < 3:
        return float("nan")
    ranks = np.arange(first, first + len(values), dtype=np.float64)
    return float(np.polyfit(np.log(ranks), np.log(values), 1, w=1 / np.sqrt(ranks))[0])


def _shares(counts: ArrayLike) -> Numbers:
    values = _as_counts(counts)
    with np.errstate(invalid="ignore"):
        return np.asarray(values / values.sum(axis=0))


def _as_counts(counts: ArrayLike) -> Numbers:
    values = np.asarray(counts, dtype=np.float64)
    if values.ndim == 0 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("counts must be finite numbers >= 0 along the first axis.")
    return values


def _times_log(weights: Numbers, shares: Numbers) -> Numbers:
    """weights * ln(shares), 0 where a share is 0."""
    return np.asarray(weights * np.log(np.where(shares > 0, shares, 1.0)))


# Distance of point sets in the plane.


def sliced_wasserstein(points: ArrayLike, others: ArrayLike, *, directions: int = 32) -> float:
    """The sliced 1-Wasserstein distance of `points` (n, 2) from `others` (m, 2), in their unit.

    The mean distance of the two sets' projections over `directions` evenly spaced through half a turn (Bonneel et al.
    2015). Directions are fixed, not random, so the same points give the same number.

    Raises:
        ValueError: a set is empty, not in the plane or not finite, or there is no direction.
    """
    first, second = np.asarray(points, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if any(rows.ndim != 2 or rows.shape[1] != 2 or len(rows) == 0 for rows in (first, second)):
        raise ValueError(f"points of shapes {first.shape} and {second.shape}. Give (n, 2) and (m, 2).")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a point is not finite. Give numbers.")
    if directions < 1:
        raise ValueError(f"directions must be >= 1, got {directions}.")
    angles = np.pi * np.arange(directions) / directions
    axes = np.stack([np.cos(angles), np.sin(angles)])
    projections = zip((first @ axes).T, (second @ axes).T, strict=True)
    return float(np.mean([wasserstein_distance(one, other) for one, other in projections]))


# n-grams of two corpora, compared at equal numbers: a histogram of more n-grams covers more cells, so the larger side
# is subsampled first. The cells are the exact n-grams that then occur on either side; none are hashed.


TokenNGrams = NDArray[np.int64]


def ngram_counts(sequences: Iterable[ArrayLike], others: Iterable[ArrayLike], n: int) -> NDArray[np.int64]:
    """How often each n-gram that occurs in either set of integer sequences occurs in each of them; shape (2, cells).

    An n-gram never crosses from one sequence into the next. No n-gram at all gives shape (2, 0).

    Raises:
        ValueError: `n` is below 1.
    """
    return _count_cells(_all_ngrams(sequences, n), _all_ngrams(others, n))


def ngram_kl(
    p: Iterable[ArrayLike],
    q: Iterable[ArrayLike],
    n: int,
    *,
    smoothing: float = 0.5,
    max_ngrams: int | None = None,
    seed: int = 0,
) -> float:
    """KL(p || q) in nats of the n-grams of two sets of integer sequences, at equal numbers of n-grams.

    The larger side is subsampled by `seed` without replacement to the size of the other (and at most `max_ngrams`).
    What is drawn depends on the side's own n-grams too, so that two texts of one length are not read in the same
    places, and KL(q || p) uses the same subsamples. `smoothing` is added to every cell that is then filled on either
    side. The more cells, the larger the divergence of two samples of one text, too: compare with that number for real
    text. NaN where a side has no n-gram.

    Raises:
        ValueError: `n` is below 1, or `smoothing` is negative.
    """
    a, b = _all_ngrams(p, n), _all_ngrams(q, n)
    size = min(len(a), len(b), len(a) if max_ngrams is None else max_ngrams)
    if size == 0:
        return float("nan")
    counts = _count_cells(_subsample(a, size, seed), _subsample(b, size, seed))
    return kl_divergence(counts[0], counts[1], floor=0.0, smoothing=smoothing)


def _count_cells(first: TokenNGrams, second: TokenNGrams) -> NDArray[np.int64]:
    tokens = np.concatenate([first, second])
    ranks = np.unique(tokens, return_inverse=True)[1].reshape(tokens.shape)
    size = int(ranks.max(initial=0)) + 1
    # A prefix is encoded by its rank among the prefixes, so a code stays below the number of n-grams times `size`.
    codes = ranks[:, 0]
    for column in range(1, tokens.shape[1]):
        codes = np.unique(codes * size + ranks[:, column], return_inverse=True)[1]
    cells = int(codes.max(initial=-1)) + 1
    halves = (codes[: len(first)], codes[len(first) :])
    return np.stack([np.bincount(half, minlength=cells) for half in halves]).astype(np.int64)


def _subsample(grams: TokenNGrams, size: int, seed: int) -> TokenNGrams:
    if len(grams) == size:
        return grams
    rng = np.random.default_rng([seed, zlib.crc32(grams.tobytes())])
    return grams[rng.choice(len(grams), size=size, replace=False)]


def _all_ngrams(sequences: Iterable[ArrayLike], n: int) -> TokenNGrams:
    """All n-grams, (count, n)."""
    if n < 1:
        raise ValueError(f"n must be >= 1, got {n}.")
    rows = [np.asarray(sequence, dtype=np.int64).ravel() for sequence in sequences]
    views = [np.lib.stride_tricks.sliding_window_view(row, n) for row in rows if len(row) >= n]
    return np.concatenate([np.zeros((0, n), np.int64), *views])
