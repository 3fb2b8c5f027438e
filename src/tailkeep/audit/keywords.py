"""Which words and pairs of words one corpus has more of than the other, and which documents are most like which.

Rule: these are to be read, not to be tested: a list of extremes always has extremes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from tailkeep.audit.documents import SampledDocument
from tailkeep.data.hashing import count_features, log_ratios
from tailkeep.data.sketches import FrequentItems

_PRIOR = 1000.0
_SHORTEST = 8
_FOLDS = 5
_SHOWN_CHARACTERS = 600


@dataclass(frozen=True)
class KeywordScore:
    """An n-gram with its occurrences per million on both sides; `score` > 0 if the input has more of it."""

    text: str
    input: float
    reference: float
    score: float


def keyword_scores(
    ours: FrequentItems, theirs: FrequentItems, totals: tuple[int, int], limit: int
) -> tuple[list[KeywordScore], list[KeywordScore]]:
    """The `limit` n-grams that the first side has too many of, and too few, the most telling first.

    The score is the log odds ratio with an informative Dirichlet prior, the pooled frequencies at a weight of 1,000,
    over its standard deviation (Monroe, Colaresi and Quinn 2008, equations 16 and 22).

    Args:
        ours, theirs: the frequent n-grams of both sides.
        totals: how many n-grams each has in all.
        limit: the length of either list.
    """
    here, there = (dict(zip(side.hashes.tolist(), side.counts.tolist(), strict=True)) for side in (ours, theirs))
    texts = ours.texts | theirs.texts
    hashes = sorted(here.keys() | there.keys(), key=lambda hash_: texts[hash_])
    if not hashes or not min(totals):
        return [], []
    counts = np.array([[side.get(hash_, 0) for hash_ in hashes] for side in (here, there)], np.float64)
    scores = log_odds(counts, np.array(totals, np.float64))
    millions = counts / np.array(totals)[:, None] * 1e6
    order = np.argsort(scores, kind="stable")

    def shown(places: NDArray[np.int64]) -> list[KeywordScore]:
        return [
            KeywordScore(
                texts[hashes[i]].decode("utf-8", "replace"),
                float(millions[0, i]),
                float(millions[1, i]),
                float(scores[i]),
            )
            for i in places
        ]

    over = order[::-1][:limit]
    under = order[:limit]
    return shown(over[scores[over] > 0]), shown(under[scores[under] < 0])


def log_odds(counts: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """The score (V,) of types with `counts` (2, V) of `totals` (2,) items, see `keyword_scores`."""
    prior = _PRIOR * counts.sum(axis=0) / totals.sum()
    inside = counts + prior
    outside = totals[:, None] + _PRIOR - inside
    odds = np.log(inside) - np.log(np.maximum(outside, 1e-9))
    return np.asarray((odds[0] - odds[1]) / np.sqrt((1 / inside).sum(axis=0)))


@dataclass(frozen=True)
class Example:
    """A document to read; `weight`, its mean log importance per n-gram, is above 0 if it is like the reference."""

    side: str
    place: str
    id: str
    weight: float
    text: str


@dataclass(frozen=True, eq=False)
class Importance:
    """Importance weights of the samples (DSIR, Xie et al. 2023, arXiv 2302.03169): ln p(x) / q(x) per n-gram.

    Attributes:
        input, reference: the weight of each document of either sample.
        separation: the probability that a document of the reference has more weight than one of the input.
        ends: documents of the input that are least and most like the reference, and of the reference least like it.
    """

    input: NDArray[np.float64]
    reference: NDArray[np.float64]
    separation: float
    ends: list[Example]


def importance(
    samples: tuple[Sequence[SampledDocument], Sequence[SampledDocument]],
    buckets: tuple[NDArray[np.int64], NDArray[np.int64]],
    limit: int,
) -> Importance:
    """How much more the hashed words and pairs of words of each document speak for the reference than for the input.

    Args:
        samples: documents of the input and of the reference.
        buckets: (b,) words and pairs of words of both whole corpora in buckets. Before a document is weighed, a fifth
            of both samples, its own among them, is taken out: or every document would speak for its own side, and
            with it alone taken out, against it.
        limit: how many documents to give for each end.
    """
    features = [count_features([item.text for item in sample]).toarray() for sample in samples]
    logs = [_logs(features, buckets, fold) for fold in range(_FOLDS)]
    weights, kept = [], []
    for sample, own in zip(samples, features, strict=True):
        long_enough = np.flatnonzero(own.sum(axis=1) >= 2 * _SHORTEST).tolist()
        kept.append([sample[place] for place in long_enough])
        found = [own[place] @ logs[place % _FOLDS] / own[place].sum() for place in long_enough]
        weights.append(np.array(found, np.float64))
    ours, theirs = weights
    ends = [
        *_examples("input", kept[0], ours, limit),
        *_examples("input", kept[0], ours, limit, rising=False),
        *_examples("reference", kept[1], theirs, limit),
    ]
    return Importance(ours, theirs, separation(ours, theirs), ends)


def separation(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """The probability that one of `theirs` is above one of `ours`, ties counted half; NaN if a side is empty."""
    if not len(ours) or not len(theirs):
        return float("nan")
    ranks = rankdata(np.concatenate([ours, theirs]))[len(ours) :]
    return float((ranks.sum() - len(theirs) * (len(theirs) + 1) / 2) / (len(ours) * len(theirs)))


def _logs(
    features: Sequence[NDArray[np.int32]], buckets: tuple[NDArray[np.int64], NDArray[np.int64]], fold: int
) -> NDArray[np.float64]:
    """ln p / q (b,) of a bucket in the reference and in the input, both without the documents of `fold`."""
    parts = [own[fold::_FOLDS].sum(axis=0) for own in features]
    # Never below nothing: where the sample cuts a document, it has a word that the document has not.
    left = [np.maximum(counts - part, 0) for part, counts in zip(parts, buckets, strict=True)]
    return log_ratios(left[0], left[1])


def _examples(
    side: str, sample: Sequence[SampledDocument], weights: NDArray[np.float64], limit: int, *, rising: bool = True
) -> list[Example]:
    order = np.argsort(weights if rising else -weights, kind="stable")[:limit].tolist()
    return [
        Example(side, sample[i].place, sample[i].id, float(weights[i]), sample[i].text[:_SHOWN_CHARACTERS])
        for i in order
    ]
