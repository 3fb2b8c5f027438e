"""n-grams of two corpora compared at the same number of tokens.

Rule: a histogram of more tokens covers more cells, so both sides are cut to the smaller one's size before they meet.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailkeep.metrics.divergence import kl_divergence

Rows = list[NDArray[np.int64]]


def ngram_counts(sequences: Iterable[ArrayLike], others: Iterable[ArrayLike], n: int) -> NDArray[np.int64]:
    """How often each n-gram that occurs in either set of integer sequences occurs in each of them; shape (2, cells).

    An n-gram never crosses from one sequence into the next. No n-gram at all gives shape (2, 0).

    Raises:
        ValueError: `n` is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}. Give at least 1.")
    first, second = _windows(sequences, n), _windows(others, n)
    cells, where = np.unique(np.concatenate([first, second]), axis=0, return_inverse=True)
    where = where.ravel()
    halves = (where[: len(first)], where[len(first) :])
    return np.stack([np.bincount(half, minlength=len(cells)) for half in halves]).astype(np.int64)


def ngram_kl(p: Iterable[ArrayLike], q: Iterable[ArrayLike], n: int, *, smoothing: float = 0.5) -> float:
    """KL(p || q) in nats of the n-grams of two sets of integer sequences, at equal token counts.

    The longer side is cut to the tokens of the shorter, whole sequences first; `smoothing` is added to every cell that
    either side has. NaN where a side has no n-gram.

    Raises:
        ValueError: `n` is below 1, or `smoothing` is negative.
    """
    a, b = _rows(p), _rows(q)
    size = min(sum(map(len, a)), sum(map(len, b)))
    counts = ngram_counts(_first(a, size), _first(b, size), n)
    if counts.shape[1] == 0 or (counts.sum(axis=1) == 0).any():
        return float("nan")
    return kl_divergence(counts[0], counts[1], floor=0.0, smoothing=smoothing)


def _rows(sequences: Iterable[ArrayLike]) -> Rows:
    return [np.asarray(sequence, dtype=np.int64).ravel() for sequence in sequences]


def _first(rows: Rows, size: int) -> Rows:
    """The first `size` tokens, the last sequence cut."""
    ends = np.cumsum([len(row) for row in rows])
    whole = int(np.searchsorted(ends, size, side="right"))
    taken = int(ends[whole - 1]) if whole else 0
    return rows[:whole] + ([rows[whole][: size - taken]] if size > taken else [])


def _windows(sequences: Iterable[ArrayLike], n: int) -> NDArray[np.int64]:
    """All n-grams, (count, n)."""
    rows = [row for row in _rows(sequences) if len(row) >= n]
    views = [np.lib.stride_tricks.sliding_window_view(row, n) for row in rows]
    return np.concatenate([np.zeros((0, n), np.int64), *views])
