"""The evidence of each document for the synthetic reference against the human one, from the words that occur in it.

Rule: no document is scored by a model that has seen it, nor one of its neighbours: each reference is cut into blocks
of consecutive documents, and a block is scored by what the other blocks hold. Documents of the corpus are dealt to the
same models in turn, so their scores are distributed as those of the references.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse, special

from tailkeep.audit.config import SampleConfig
from tailkeep.audit.documents import SampledDocument, common_length, cut_words
from tailkeep.data.hashing import (
    Hashes,
    NGrams,
    count_documents_with,
    group_equal_grams,
    ngrams_of,
    split_words,
)

Numbers = NDArray[np.float64]

SIDES = ("input", "reference", "synthetic")
FOLDS = 10
MIN_DOCUMENTS = 20
"""The fewest documents of a side, or of a source, for which a share is estimated."""

MIN_BLOCKS = 5
"""The words of one topic occur in fewer blocks of consecutive documents."""

_MAX_N = 2
_MIN_DOCUMENT_FREQUENCY = 3
_SMOOTHING = 1.0
_RIDGE = 1.0


@dataclass(frozen=True, eq=False)
class SideDocuments:
    """The documents of one side, truncated to the words of all sides.

    Attributes:
        documents: (n,) the sampled documents that are long enough, in the order of their files.
        texts: (n,) their bytes, truncated.
        short: how many documents of the sample have fewer words.
    """

    documents: list[SampledDocument]
    texts: list[bytes]
    short: int


@dataclass(frozen=True, eq=False)
class DocumentEvidence:
    """What the models of both references say of each document of one side.

    Attributes:
        scores: (n,) ln q(x) / p(x), the evidence for the synthetic reference, in nats if words were independent.
        folds: (n,) the model that scored it; of a reference also its block.
    """

    scores: Numbers
    folds: NDArray[np.int64]


def blocks_of(documents: int) -> NDArray[np.int64]:
    """(documents,) the block of each of so many consecutive documents, 0 to `FOLDS` - 1."""
    return np.arange(documents) * FOLDS // max(documents, 1)


def match_sides(
    samples: Mapping[str, Sequence[SampledDocument]], sample: SampleConfig
) -> tuple[int, dict[str, SideDocuments]]:
    """The number of words that 80 % of the documents of each side have, and the documents truncated to it."""
    ordered = {side: sorted(items, key=lambda item: _place(item.location)) for side, items in samples.items()}
    split = {side: split_words([item.text.encode("utf-8") for item in items]) for side, items in ordered.items()}
    length = common_length(split.values(), sample)
    sides = {}
    for side, words in split.items():
        long_enough = np.flatnonzero(words.counts >= length).tolist()
        texts = cut_words(words, long_enough, length)
        sides[side] = SideDocuments([ordered[side][i] for i in long_enough], texts, len(words.counts) - len(texts))
    return length, sides


def _place(location: str) -> tuple[str, int]:
    name, _, row = location.rpartition(":")
    return name, int(row)


def tabulate(sides: Mapping[str, SideDocuments]) -> dict[str, sparse.csr_array]:
    """Side -> (documents, V): 1 where a word or pair of words occurs that 3 documents of all sides together hold."""
    grams = {side: ngrams_of(split_words(documents.texts), _MAX_N) for side, documents in sides.items()}
    vocabulary = _vocabulary([grams[side] for side in SIDES], [len(sides[side].texts) for side in SIDES])
    return {side: _occurrences(grams[side], vocabulary, len(sides[side].texts)) for side in sides}


def score_words(tables: Mapping[str, sparse.csr_array]) -> dict[str, DocumentEvidence]:
    """Score every document by the occurrence of words and pairs of words (Liang et al. 2024, arXiv 2403.07183).

    ln q(x) / p(x) = sum over features t in x of ln q_t / p_t + sum over the others of ln (1 - q_t) / (1 - p_t), with
    p_t and q_t the smoothed shares of the documents of the references that hold t. Liang et al. keep adjectives or
    adverbs, so that topics do not count; here a feature must occur in most blocks of a reference, in any language.
    """
    folds = {side: blocks_of(tables[side].shape[0]) for side in SIDES[1:]}
    blocks = {side: BlockFrequencies(tables[side], folds[side]) for side in SIDES[1:]}
    folds["input"] = np.arange(tables["input"].shape[0]) % FOLDS
    scores = {side: np.zeros(table.shape[0]) for side, table in tables.items()}
    for fold in range(FOLDS):
        human, machine = (blocks[side].shares_without(fold) for side in SIDES[1:])
        is_feature = select_features(blocks.values(), fold)
        present = np.where(is_feature, np.log(machine / human), 0)
        absent = np.where(is_feature, np.log((1 - machine) / (1 - human)), 0)
        for side, table in tables.items():
            rows = folds[side] == fold
            scores[side][rows] = table[rows] @ (present - absent) + absent.sum()
    return {side: DocumentEvidence(scores[side], folds[side]) for side in tables}


class BlockFrequencies:
    """The document frequencies (FOLDS, V) of the blocks of one side with the occurrences `table` (n, V)."""

    def __init__(self, table: sparse.csr_array, folds: NDArray[np.int64]) -> None:
        self._sizes = np.bincount(folds, minlength=FOLDS)
        ones = np.ones(len(folds), np.float32)
        is_inside = sparse.csr_array((ones, (folds, np.arange(len(folds)))), shape=(FOLDS, len(folds)))
        # Counts of a sample are exact in float32.
        self._counts = np.asarray((is_inside @ table).toarray(), np.float64)

    def shares_without(self, fold: int) -> Numbers:
        """(V,) the shares of documents outside of the block `fold`, one document added to both outcomes."""
        counts = self._counts.sum(axis=0) - self._counts[fold]
        return np.asarray((counts + _SMOOTHING) / (self._sizes.sum() - self._sizes[fold] + 2 * _SMOOTHING))

    def blocks_without(self, fold: int) -> NDArray[np.int64]:
        """(V,) in how many of the other blocks a feature occurs."""
        occurs = self._counts > 0
        return np.asarray(occurs.sum(axis=0) - occurs[fold])


def select_features(sides: Iterable[BlockFrequencies], fold: int) -> NDArray[np.bool_]:
    """(V,) the features that occur in most of the blocks of some side but `fold`: the words of a topic are in few."""
    return np.asarray(np.any([side.blocks_without(fold) >= MIN_BLOCKS for side in sides], axis=0))


def _vocabulary(sides: Sequence[Sequence[NGrams]], sizes: Sequence[int]) -> Hashes:
    """The features of all `sides` of so many documents each, sorted by hash (V,)."""
    offsets = np.cumsum([0, *sizes[:-1]])
    hashes: list[Hashes] = []
    for length in range(_MAX_N):
        parts = [grams[length] for grams in sides]
        joined = NGrams(
            np.concatenate([grams.hashes for grams in parts]),
            np.concatenate([grams.firsts for grams in parts]),
            np.concatenate([grams.documents + offset for grams, offset in zip(parts, offsets, strict=True)]),
        )
        equal = group_equal_grams(joined)
        hashes.append(equal.hashes[count_documents_with(joined, equal) >= _MIN_DOCUMENT_FREQUENCY])
    return np.unique(np.concatenate(hashes))


def _occurrences(grams: Sequence[NGrams], vocabulary: Hashes, documents: int) -> sparse.csr_array:
    """(documents, V): 1 where a feature occurs in a document."""
    hashes = np.concatenate([ngrams.hashes for ngrams in grams])
    rows = np.concatenate([ngrams.documents for ngrams in grams])
    columns = np.minimum(np.searchsorted(vocabulary, hashes), max(len(vocabulary) - 1, 0))
    known = np.flatnonzero(vocabulary[columns] == hashes) if len(vocabulary) else np.zeros(0, np.int64)
    shape = (documents, len(vocabulary))
    table = sparse.csr_array((np.ones(len(known), np.float32), (rows[known], columns[known])), shape=shape)
    table.sum_duplicates()
    table.data[:] = 1
    return table


def add_prior(
    evidence: Mapping[str, DocumentEvidence], statistics: Mapping[str, Numbers]
) -> dict[str, DocumentEvidence]:
    """Combine the evidence of words with `statistics` (n, S) of the prior's scores of each document.

    The log density ratio of all of them is that of a logistic regression (Sugiyama et al. 2012, chapter 4) on the score
    of words, the statistics and their squares; the documents of a block are scored by the regression on the others.
    """
    features = {side: _features(evidence[side].scores, statistics[side]) for side in evidence}
    references = np.concatenate([features[side] for side in SIDES[1:]])
    centre, scale = references.mean(axis=0), references.std(axis=0) + 1e-12
    standard = {side: (values - centre) / scale for side, values in features.items()}
    scores = {side: np.zeros(len(values)) for side, values in standard.items()}
    for fold in range(FOLDS):
        parts = [standard[side][evidence[side].folds != fold] for side in SIDES[1:]]
        weights = _logistic_regression(*parts)
        for side, values in standard.items():
            rows = evidence[side].folds == fold
            scores[side][rows] = values[rows] @ weights[1:] + weights[0]
    return {side: DocumentEvidence(scores[side], item.folds) for side, item in evidence.items()}


def _features(scores: Numbers, statistics: Numbers) -> Numbers:
    return np.column_stack([scores, statistics, statistics**2])


def _logistic_regression(human: Numbers, machine: Numbers) -> Numbers:
    """The weights (1 + F,) of a ridge regression in which both sides weigh equally."""
    design = np.column_stack([np.ones(len(human) + len(machine)), np.concatenate([human, machine])])
    signs = np.repeat([-1.0, 1.0], [len(human), len(machine)])
    share = np.repeat([0.5 / len(human), 0.5 / len(machine)], [len(human), len(machine)]) * len(signs)
    ridge = np.full(design.shape[1], _RIDGE)
    ridge[0] = 0

    def loss(weights: Numbers) -> tuple[float, Numbers]:
        margins = signs * (design @ weights)
        slopes = -share * signs * special.expit(-margins)
        value = float((share * np.logaddexp(0, -margins)).sum() + ridge @ weights**2 / 2)
        return value, design.T @ slopes + ridge * weights

    solved = optimize.minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(solved.x)
