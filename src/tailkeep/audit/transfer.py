"""Whether two references, mixed, explain a corpus: a classifier must not tell its documents from those of the mixture.

Rule: neighbouring documents share topics, so the classifier is tested on blocks of consecutive documents that it has
not seen, and blocks are the unit of its test. Words that only one block has tell nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from tailkeep.audit.evidence import FOLDS, SIDES, BlockFrequencies, blocks_of, select_features
from tailkeep.metrics import auroc

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class TransferTest:
    """How well a classifier tells the corpus from the mixture of the references.

    Attributes:
        auc: the probability that a document of the corpus looks more like the corpus than one of the mixture does.
        p: the one-sided p-value of the hypothesis that it is one half.
    """

    auc: float
    p: float


def classifier_test(
    tables: Mapping[str, sparse.csr_array], rows: NDArray[np.int64], shares: tuple[Numbers, Numbers]
) -> TransferTest:
    """The classifier two-sample test (Lopez-Paz and Oquab 2017) of the documents `rows` against the mixture.

    The classifier is the likelihood ratio of the occurrence of words and pairs of words, as in `score_words`. Its AUC
    of each of ten blocks that it was not trained on is compared with one half by Student's t.

    Args:
        tables: side -> (documents, V) occurrences, in the order of the files.
        rows: the documents of the input, ascending.
        shares: (FOLDS,) of the synthetic reference in each block of the input, and in all others. Each is compared with
            a mixture of its own share, since synthetic documents may lie side by side.
    """
    sides = {"input": tables["input"][rows], **{side: tables[side] for side in SIDES[1:]}}
    folds = {side: blocks_of(table.shape[0]) for side, table in sides.items()}
    blocks = {side: BlockFrequencies(table, folds[side]) for side, table in sides.items()}
    areas = np.zeros(FOLDS)
    for fold in range(FOLDS):
        corpus, human, machine = (blocks[side].shares_without(fold) for side in SIDES)
        mixture = human + shares[1][fold] * (machine - human)
        is_feature = select_features(blocks.values(), fold)
        present = np.where(is_feature, np.log(corpus / mixture), 0)
        absent = np.where(is_feature, np.log((1 - corpus) / (1 - mixture)), 0)
        scores = [sides[side][folds[side] == fold] @ (present - absent) for side in SIDES]
        share = shares[0][fold]
        areas[fold] = (1 - share) * auroc(scores[1], scores[0]) + share * auroc(scores[2], scores[0])
    spread_of_mean = max(float(areas.std(ddof=1)) / np.sqrt(FOLDS), 1e-9)
    return TransferTest(float(areas.mean()), float(stats.t.sf((areas.mean() - 0.5) / spread_of_mean, FOLDS - 1)))
