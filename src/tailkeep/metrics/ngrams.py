"""n-grams of two corpora compared at the same number of them.

Rule: a histogram of more n-grams covers more cells, so the longer side is thinned to the other's number before they
meet. The cells are the n-grams that occur on either side then: exact ones, none hashed together.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailkeep.metrics.divergence import kl_divergence

Grams = NDArray[np.int64]


def ngram_counts(sequences: Iterable[ArrayLike], others: Iterable[ArrayLike], n: int) -> NDArray[np.int64]:
    """How often each n-gram that occurs in either set of integer sequences occurs in each of them; shape (2, cells).

    An n-gram never crosses from one sequence into the next. No n-gram at all gives shape (2, 0).

    Raises:
        ValueError: `n` is below 1.
    """
    return _counted(_grams(sequences, n), _grams(others, n))


def ngram_kl(
    p: Iterable[ArrayLike],
    q: Iterable[ArrayLike],
    n: int,
    *,
    smoothing: float = 0.5,
    most: int | None = None,
    seed: int = 0,
) -> float:
    """KL(p || q) in nats of the n-grams of two sets of integer sequences, as many of one as of the other.

    Of the side that has more, as many as the other has (and at most `most`) are drawn by `seed` without replacement,
    the same ones for KL(q || p). `smoothing` is added to every cell that is filled on either side then. The more cells,
    the further apart are also two samples of one text: read it beside that number for real text. NaN where a side has
    no n-gram.

    Raises:
        ValueError: `n` is below 1, or `smoothing` is negative.
    """
    a, b = _grams(p, n), _grams(q, n)
    size = min(len(a), len(b), len(a) if most is None else most)
    if size == 0:
        return float("nan")
    counts = _counted(_thinned(a, size, seed), _thinned(b, size, seed))
    return kl_divergence(counts[0], counts[1], floor=0.0, smoothing=smoothing)


def _counted(first: Grams, second: Grams) -> NDArray[np.int64]:
    tokens = np.concatenate([first, second])
    ranks = np.unique(tokens, return_inverse=True)[1].reshape(tokens.shape)
    size = int(ranks.max(initial=0)) + 1
    # A prefix is named by its rank among the prefixes, so a code stays below the number of n-grams times `size`.
    where = ranks[:, 0]
    for column in range(1, tokens.shape[1]):
        where = np.unique(where * size + ranks[:, column], return_inverse=True)[1]
    cells = int(where.max(initial=-1)) + 1
    halves = (where[: len(first)], where[len(first) :])
    return np.stack([np.bincount(half, minlength=cells) for half in halves]).astype(np.int64)


def _thinned(grams: Grams, size: int, seed: int) -> Grams:
    if len(grams) == size:
        return grams
    return grams[np.random.default_rng(seed).choice(len(grams), size=size, replace=False)]


def _grams(sequences: Iterable[ArrayLike], n: int) -> Grams:
    """All n-grams, (count, n)."""
    if n < 1:
        raise ValueError(f"n is {n}. Give at least 1.")
    rows = [np.asarray(sequence, dtype=np.int64).ravel() for sequence in sequences]
    views = [np.lib.stride_tricks.sliding_window_view(row, n) for row in rows if len(row) >= n]
    return np.concatenate([np.zeros((0, n), np.int64), *views])
