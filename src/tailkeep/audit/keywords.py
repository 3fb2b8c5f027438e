"""Words beside a reference: over-represented ones, documents that resemble the reference, and coverage.

Rules: lists are for reading, not for testing, since a list of extremes always has extremes. Coverage is measured on
equally much text, beside that of a second part of the reference; parts are whole documents, since words occur in
bursts.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from tailkeep.audit.documents import SampledDocument
from tailkeep.data.count_tables import merge_rows, read_ranges
from tailkeep.data.hashing import count_features, log_ratios
from tailkeep.data.sketches import FrequentItems
from tailkeep.metrics import auroc
from tailkeep.sanitize import excerpt

_PRIOR_WEIGHT = 1000.0
_MIN_WORDS = 8
_FOLDS = 5
_NUM_BANDS = 12


@dataclass(frozen=True)
class KeywordScore:
    """An n-gram with its occurrences per million on both sides. `score` > 0: the input has more of it."""

    text: str
    input: float
    reference: float
    score: float


def keyword_scores(
    input_: FrequentItems, reference: FrequentItems, totals: tuple[int, int], limit: int
) -> tuple[list[KeywordScore], list[KeywordScore]]:
    """The `limit` n-grams that are most over-represented in the input, and the most under-represented ones.

    The score is the log odds ratio with an informative Dirichlet prior, the pooled frequencies at a weight of 1,000,
    over its standard deviation (Monroe, Colaresi and Quinn 2008, equations 16 and 22).

    Args:
        input_, reference: the frequent n-grams of both sides.
        totals: the total number of n-grams of each.
        limit: the maximum length of each list.
    """
    sides = [dict(zip(side.hashes.tolist(), side.counts.tolist(), strict=True)) for side in (input_, reference)]
    texts = input_.texts | reference.texts
    hashes = sorted(sides[0].keys() | sides[1].keys(), key=lambda hash_: texts[hash_])
    if not hashes or not min(totals):
        return [], []
    counts = np.array([[side.get(hash_, 0) for hash_ in hashes] for side in sides], np.float64)
    scores = log_odds(counts, np.array(totals, np.float64))
    millions = counts / np.array(totals)[:, None] * 1e6
    order = np.argsort(scores, kind="stable")

    def keywords(indices: NDArray[np.int64]) -> list[KeywordScore]:
        return [
            KeywordScore(
                texts[hashes[i]].decode("utf-8", "replace"),
                float(millions[0, i]),
                float(millions[1, i]),
                float(scores[i]),
            )
            for i in indices
        ]

    over = order[::-1][:limit]
    under = order[:limit]
    return keywords(over[scores[over] > 0]), keywords(under[scores[under] < 0])


def log_odds(counts: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """The score (V,) of types with `counts` (2, V) of `totals` (2,) items, see `keyword_scores`."""
    prior = _PRIOR_WEIGHT * counts.sum(axis=0) / totals.sum()
    inside = counts + prior
    outside = totals[:, None] + _PRIOR_WEIGHT - inside
    odds = np.log(inside) - np.log(np.maximum(outside, 1e-9))
    return np.asarray((odds[0] - odds[1]) / np.sqrt((1 / inside).sum(axis=0)))


@dataclass(frozen=True)
class Example:
    """A document to read. `weight` is its mean log importance per n-gram; > 0: it resembles the reference."""

    side: str
    location: str
    id: str
    weight: float
    text: str


@dataclass(frozen=True, eq=False)
class ImportanceWeights:
    """Importance weights of the samples (DSIR, Xie et al. 2023, arXiv 2302.03169): ln p(x) / q(x) per n-gram.

    Attributes:
        input, reference: the weight of each document of either sample.
        separation: the probability that a document of the reference has a higher weight than one of the input (AUC).
        examples: documents of the input with the lowest and the highest weights, and of the reference with the lowest.
    """

    input: NDArray[np.float64]
    reference: NDArray[np.float64]
    separation: float
    examples: list[Example]


def importance_weights(
    samples: tuple[Sequence[SampledDocument], Sequence[SampledDocument]],
    buckets: tuple[NDArray[np.int64], NDArray[np.int64]],
    limit: int,
) -> ImportanceWeights:
    """The log likelihood ratio, reference over input, of the hashed words and word pairs of each document.

    Args:
        samples: documents of the input and of the reference.
        buckets: (b,) counts of words and word pairs of both whole corpora in buckets. The ratio of a document is
            cross-fitted: a fifth of both samples, with the document itself, is subtracted first. Otherwise every
            document would vote for its own side; with only itself subtracted, against it. Where a document was
            truncated, what was cut off cannot be subtracted, so the samples alone are counted.
        limit: the number of examples per end.
    """
    features = [count_features([item.text for item in sample]).toarray() for sample in samples]
    if any(item.bytes > len(item.text.encode()) for sample in samples for item in sample):
        buckets = features[0].sum(axis=0), features[1].sum(axis=0)
    logs = [_fold_log_ratios(features, buckets, fold) for fold in range(_FOLDS)]
    weights, documents = [], []
    for sample, counts in zip(samples, features, strict=True):
        long_enough = np.flatnonzero(counts.sum(axis=1) >= 2 * _MIN_WORDS).tolist()
        documents.append([sample[index] for index in long_enough])
        ratios = [counts[index] @ logs[index % _FOLDS] / counts[index].sum() for index in long_enough]
        weights.append(np.array(ratios, np.float64))
    input_weights, reference_weights = weights
    examples = [
        *_examples("input", documents[0], input_weights, limit),
        *_examples("input", documents[0], input_weights, limit, ascending=False),
        *_examples("reference", documents[1], reference_weights, limit),
    ]
    return ImportanceWeights(input_weights, reference_weights, auroc(input_weights, reference_weights), examples)


def _fold_log_ratios(
    features: Sequence[NDArray[np.int32]], buckets: tuple[NDArray[np.int64], NDArray[np.int64]], fold: int
) -> NDArray[np.float64]:
    """ln p / q (b,) of a bucket in the reference and in the input, both without the documents of `fold`."""
    parts = [counts[fold::_FOLDS].sum(axis=0) for counts in features]
    remaining = [total - part for part, total in zip(parts, buckets, strict=True)]
    return log_ratios(remaining[0], remaining[1])


def _examples(
    side: str, sample: Sequence[SampledDocument], weights: NDArray[np.float64], limit: int, *, ascending: bool = True
) -> list[Example]:
    order = np.argsort(weights if ascending else -weights, kind="stable")[:limit].tolist()
    return [Example(side, sample[i].location, sample[i].id, float(weights[i]), excerpt(sample[i].text)) for i in order]


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
    for number in range(_NUM_BANDS):
        first = 2**number
        last = None if number == _NUM_BANDS - 1 else 2 * first - 1
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
