"""Importance weights of texts: how much more their words speak for one corpus than for another (DSIR).

Rule: a text is its words and pairs of words, each in one of `BUCKETS` buckets; order and meaning count for nothing.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from tailkeep.data.hashed.grams import grams_of
from tailkeep.data.hashed.hashing import buckets_of
from tailkeep.data.hashed.words import words_of

BUCKETS = 10_000
"""As in ToEdit's analysis (arXiv 2412.14689), after DSIR (arXiv 2302.03169)."""

_SMOOTHING = 0.5


def occurrences(texts: Sequence[str]) -> sparse.csr_array:
    """(texts, buckets): how often words and pairs of words of each bucket occur in each text."""
    grams = grams_of(words_of([text.encode("utf-8") for text in texts]), 2)
    rows = np.concatenate([own.documents for own in grams])
    columns = np.concatenate([buckets_of(own.hashes, BUCKETS) for own in grams])
    counts = sparse.coo_array((np.ones(len(rows), np.int32), (rows, columns)), shape=(len(texts), BUCKETS))
    return counts.tocsr()


def log_ratios(ours: ArrayLike, theirs: ArrayLike) -> NDArray[np.float64]:
    """ln p / q (b,) of a bucket in the reference (`theirs`) and in the input (`ours`), from counts (b,) of both.

    Half an occurrence is added to each. A text's importance weight is exp(sum over its n-grams of ln p / q), which is
    `occurrences(texts) @ log_ratios(...)` (Xie et al. 2023, arXiv 2302.03169, equation 1 and section 3).
    """
    left = [np.asarray(counts, np.float64) + _SMOOTHING for counts in (ours, theirs)]
    return np.asarray(np.log(left[1] / left[1].sum()) - np.log(left[0] / left[0].sum()))
