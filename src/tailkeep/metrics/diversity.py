"""How much a text repeats itself.

Rule: an n-gram never crosses from one sequence into the next.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
