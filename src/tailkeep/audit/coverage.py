"""Which words of a reference a corpus still has, by how common they are there.

Rule: both sides of the question get equally much text, and the reference itself is asked too: a share is read beside
that of a second part of the reference. Parts are made of whole documents, since words come in bursts.
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
    """Words that occur in `first` to `last` documents (None: and more) of a part of the reference.

    Attributes:
        types: how many there are, expected over parts.
        covered: the share of them that occur in as much text of the corpus.
        own: the share that occur in as much other text of the reference.
    """

    first: int
    last: int | None
    types: float
    covered: float
    own: float


def coverage(
    corpus: Sequence[Path], reference: Sequence[Path], words: tuple[int, int], *, memory: int
) -> list[FrequencyBand]:
    """The bands of a reference and what a corpus has of each, from tables of types.

    A part is a share s of the reference's documents, so that it has as many words as a second, disjoint part of the
    reference and a part of the corpus: n = min(half the reference, the corpus). Over all parts, a word in c documents
    of the reference is in Bin(c, s) of the first; the chance that it is in none of the second as well is
    (1 - s)^c P(Bin(c, s / (1 - s)) in the band). Nothing is drawn.

    Args:
        corpus, reference: files of the types, see `Counting.types`.
        words: how many words either has.
        memory: bytes to work in.
    """
    ours, theirs = words
    if not ours or not theirs:
        return []
    size = min(theirs / 2, ours)
    share, kept = size / theirs, size / ours
    # By the number of documents in the reference: how many words, and how many of them are expected in the corpus.
    found: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for parts in read_ranges([*corpus, *reference], memory=memory):
        here, there = merge_rows(parts[: len(corpus)]), merge_rows(parts[len(corpus) :])
        expected = np.zeros(len(there))
        places = np.searchsorted(here.hashes, there.hashes)
        is_there = np.zeros(len(there), np.bool_)
        inside = places < len(here)
        is_there[inside] = here.hashes[places[inside]] == there.hashes[inside]
        expected[is_there] = -np.expm1(here.others[places[is_there]] * np.log1p(-min(kept, 1 - 1e-12)))
        for documents, number, hits in _by_documents(there.others, expected):
            found[documents][0] += number
            found[documents][1] += hits
    return _bands(np.array([(c, *found[c]) for c in sorted(found)]).reshape(-1, 3), share)


def _by_documents(documents: NDArray[np.int64], expected: NDArray[np.float64]) -> Iterable[tuple[int, float, float]]:
    values, numbers = np.unique(documents, return_inverse=True)
    return zip(values.tolist(), np.bincount(numbers).tolist(), np.bincount(numbers, expected).tolist(), strict=True)


def _bands(rows: NDArray[np.float64], share: float) -> list[FrequencyBand]:
    """From rows of (documents of the reference, types, types expected in the corpus)."""
    documents, types, hits = rows.T
    found = []
    for number in range(_BANDS):
        first = 2**number
        last = None if number == _BANDS - 1 else 2 * first - 1
        inside = _within(documents, share, first, last)
        total = float(types @ inside)
        if total < 1:
            continue
        missed = np.exp(documents * np.log1p(-share)) * _within(documents, share / (1 - share), first, last)
        found.append(FrequencyBand(first, last, total, float(hits @ inside) / total, 1 - float(types @ missed) / total))
    return found


def _within(documents: NDArray[np.float64], share: float, first: int, last: int | None) -> NDArray[np.float64]:
    upper = np.ones(len(documents)) if last is None else binom.cdf(last, documents, share)
    return np.asarray(upper - binom.cdf(first - 1, documents, share))
