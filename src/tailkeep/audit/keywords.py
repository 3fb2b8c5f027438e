"""Which words and word pairs are over-represented in one corpus, and which documents resemble the reference.

Rule: these lists are for reading, not for testing. A list of extremes always has extremes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailkeep.audit.documents import SampledDocument, excerpt
from tailkeep.data.hashing import count_features, log_ratios
from tailkeep.data.sketches import FrequentItems
from tailkeep.metrics import auroc

_PRIOR = 1000.0
_MIN_WORDS = 8
_FOLDS = 5


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
    prior = _PRIOR * counts.sum(axis=0) / totals.sum()
    inside = counts + prior
    outside = totals[:, None] + _PRIOR - inside
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
            document would vote for its own side; with only itself subtracted, against it.
        limit: the number of examples per end.
    """
    features = [count_features([item.text for item in sample]).toarray() for sample in samples]
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
    # Clamped at 0: a truncated document can end in a word that the whole document does not have.
    remaining = [np.maximum(total - part, 0) for part, total in zip(parts, buckets, strict=True)]
    return log_ratios(remaining[0], remaining[1])


def _examples(
    side: str, sample: Sequence[SampledDocument], weights: NDArray[np.float64], limit: int, *, ascending: bool = True
) -> list[Example]:
    order = np.argsort(weights if ascending else -weights, kind="stable")[:limit].tolist()
    return [Example(side, sample[i].location, sample[i].id, float(weights[i]), excerpt(sample[i].text)) for i in order]
