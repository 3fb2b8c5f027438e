"""Which words of a reference also occur in a corpus, by their frequency in the reference.

Rule: coverage is measured on equally much text, and beside the coverage of a second part of the reference. Parts
consist of whole documents, since words occur in bursts.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from tailkeep.data.count_tables import merge_rows, read_ranges

_BANDS = 12


@dataclass(frozen=True)
class FrequencyBand:
    """Words that occur in `first` to `last` documents (None: or more) of a part of the reference.

    Attributes:
        types: their expected number over all parts.
        covered: the share of them that occur in as much text of the corpus.
        reference_covered: the share that occur in as much other text of the reference.
    """

    first: int
    last: int | None
    types: float
    covered: float
    reference_covered: float


def coverage(
    corpus: Sequence[Path], reference: Sequence[Path], words: tuple[int, int], *, memory: int
) -> list[FrequencyBand]:
    """The share of the reference's words that a corpus covers, per frequency band, from tables of types.

    A part is a share s of the reference's documents, so that it has as many words as a second, disjoint part of the
    reference and a part of the corpus: n = min(half the reference, the corpus). Over all parts, a word in c documents
    of the reference is in Bin(c, s) of the first; the chance that it is in none of the second as well is
    (1 - s)^c P(Bin(c, s / (1 - s)) in the band). Nothing is sampled.

    Args:
        corpus, reference: files of the types, see `ShardCounter.types`.
        words: the number of words of each.
        memory: bytes of memory to use.
    """
    input_words, reference_words = words
    if not input_words or not reference_words:
        return []
    size = min(reference_words / 2, input_words)
    share, input_share = size / reference_words, size / input_words
    # Per number of documents in the reference: how many words, and how many of them are expected in the corpus.
    by_documents: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for parts in read_ranges([*corpus, *reference], memory=memory):
        input_rows, reference_rows = merge_rows(parts[: len(corpus)]), merge_rows(parts[len(corpus) :])
        expected = np.zeros(len(reference_rows))
        indices = np.searchsorted(input_rows.hashes, reference_rows.hashes)
        shared = np.zeros(len(reference_rows), np.bool_)
        inside = indices < len(input_rows)
        shared[inside] = input_rows.hashes[indices[inside]] == reference_rows.hashes[inside]
        expected[shared] = -np.expm1(input_rows.others[indices[shared]] * np.log1p(-min(input_share, 1 - 1e-12)))
        for documents, number, hits in _sum_by_documents(reference_rows.others, expected):
            by_documents[documents][0] += number
            by_documents[documents][1] += hits
    return _bands(np.array([(c, *by_documents[c]) for c in sorted(by_documents)]).reshape(-1, 3), share)


def _sum_by_documents(
    documents: NDArray[np.int64], expected: NDArray[np.float64]
) -> Iterable[tuple[int, float, float]]:
    values, numbers = np.unique(documents, return_inverse=True)
    return zip(values.tolist(), np.bincount(numbers).tolist(), np.bincount(numbers, expected).tolist(), strict=True)


def _bands(rows: NDArray[np.float64], share: float) -> list[FrequencyBand]:
    """The bands of rows (documents of the reference, types, types expected in the corpus)."""
    documents, types, hits = rows.T
    bands = []
    for number in range(_BANDS):
        first = 2**number
        last = None if number == _BANDS - 1 else 2 * first - 1
        inside = _probability_within(documents, share, first, last)
        total = float(types @ inside)
        if total < 1:
            continue
        missed = np.exp(documents * np.log1p(-share)) * _probability_within(documents, share / (1 - share), first, last)
        covered, reference_covered = float(hits @ inside) / total, 1 - float(types @ missed) / total
        bands.append(FrequencyBand(first, last, total, covered, reference_covered))
    return bands


def _probability_within(
    documents: NDArray[np.float64], share: float, first: int, last: int | None
) -> NDArray[np.float64]:
    """P(first <= Bin(documents, share) <= last)."""
    upper = np.ones(len(documents)) if last is None else binom.cdf(last, documents, share)
    return np.asarray(upper - binom.cdf(first - 1, documents, share))
