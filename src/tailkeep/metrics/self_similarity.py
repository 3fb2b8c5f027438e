"""How alike the samples of one model are: self-BLEU and the Vendi score.

Rule: both depend on the number and the length of the samples, so compare samples of the same size only.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from scipy import sparse

_EPSILON = 0.1


def self_bleu(samples: Sequence[Sequence[Hashable]], *, order: int = 4) -> float:
    """The mean BLEU of each sample with all others as its references (Zhu et al. 2018, arXiv 1802.01886).

    1 if every sample occurs twice, near 0 if no two share words. BLEU is the published one (Papineni et al. 2002) with
    equal weights to `order` and its brevity penalty; a precision of 0 becomes 0.1 / its number of n-grams (method 1 of
    Chen and Cherry 2014). NaN with fewer than two samples that are not empty.

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
    penalties = []
    for owner, length in enumerate(lengths):
        others = (other for number, other in enumerate(lengths) if number != owner)
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
