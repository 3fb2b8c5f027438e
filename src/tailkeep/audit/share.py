"""How many documents of a corpus are like those of a synthetic reference, with an interval; or why no share is named.

Rule: a share is named only where both references, mixed, explain the corpus: a classifier must not tell its documents
from those of the mixture. Neighbouring documents share topics, so it is tested on blocks of consecutive documents that
it has not seen. What is not explained is refused with the test that says so, and no number stands beside a refusal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from tailkeep.audit.config import SampleConfig, ShareConfig
from tailkeep.audit.documents import SampledDocument
from tailkeep.audit.evidence import (
    FOLDS,
    MIN_DOCUMENTS,
    SIDES,
    BlockFrequencies,
    DocumentEvidence,
    SideDocuments,
    add_prior,
    blocks_of,
    match_sides,
    score_words,
    select_features,
    tabulate,
)
from tailkeep.metrics import ZERO_RESAMPLES, MixtureFit, auroc, fit_mixture, mixture_share

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


_BINS = 10
_TESTS = 2
_END = 0.01
"""An interval that reaches this near to both ends leaves nothing out."""


@dataclass(frozen=True)
class ShareEstimate:
    """The share of documents like those of the synthetic reference.

    Attributes:
        documents: the number of documents that it was estimated from.
        share, low, high: the estimate and its interval; None if refused.
        zero_p: the p-value of the hypothesis that the share is 0; None if refused.
        fit_p: the p-value of the fit of the mixture to the scores; None without enough documents.
        transfer: how well a classifier tells its documents from the mixture of the references.
        refusal: why no share is named; empty if one is.
    """

    documents: int
    share: float | None = None
    low: float | None = None
    high: float | None = None
    zero_p: float | None = None
    fit_p: float | None = None
    transfer: TransferTest | None = None
    refusal: str = ""


@dataclass(frozen=True, eq=False)
class ScoredCorpus:
    """All documents of the sample with their evidence.

    Attributes:
        words: the number of words to which the documents were truncated.
        sides: the documents by side.
        tables: the words and pairs of words that occur in them, by side.
        evidence: their evidence by side; empty if a reference is too small.
    """

    words: int
    sides: Mapping[str, SideDocuments]
    tables: Mapping[str, sparse.csr_array]
    evidence: Mapping[str, DocumentEvidence]

    @property
    def separation(self) -> float:
        """The probability that a synthetic document of the reference has more evidence than a human one (AUC)."""
        if not self.evidence:
            return float("nan")
        return auroc(*(self.evidence[side].scores for side in SIDES[1:]))

    @property
    def refusal(self) -> str:
        """Why nothing can be said of any part of the corpus; empty if something can."""
        few = {side: len(self.sides[side].texts) for side in SIDES[1:] if len(self.sides[side].texts) < MIN_DOCUMENTS}
        if not few:
            return ""
        side, number = next(iter(few.items()))
        return (
            f"the {side} side has {number} documents of at least {self.words} words. Give at least {MIN_DOCUMENTS}, or "
            "lower sample.min_words"
        )


def score_corpus(
    samples: Mapping[str, Sequence[SampledDocument]],
    sample: SampleConfig,
    prior_statistics: Mapping[str, Mapping[str, Numbers]] | None = None,
) -> ScoredCorpus:
    """Score the documents of the three sides.

    Args:
        samples: `input`, `reference` (human text) and `synthetic` -> their documents.
        sample: decides how many words of a document count.
        prior_statistics: side -> location of a document -> statistics (S,) of its scores under a prior.
    """
    words, sides = match_sides(samples, sample)
    if min(len(sides[side].texts) for side in SIDES[1:]) < MIN_DOCUMENTS:
        return ScoredCorpus(words, sides, {}, {})
    tables = tabulate(sides)
    evidence = score_words(tables)
    if prior_statistics is not None and sides["input"].texts:
        columns = {
            side: np.array([prior_statistics[side][item.location] for item in documents.documents], np.float64)
            for side, documents in sides.items()
        }
        evidence = add_prior(evidence, columns)
    return ScoredCorpus(words, sides, tables, evidence)


def estimate_share(
    corpus: ScoredCorpus,
    config: ShareConfig,
    seed: int,
    rows: NDArray[np.int64] | None = None,
    *,
    zero_resamples: int = ZERO_RESAMPLES,
) -> ShareEstimate:
    """The share among the documents `rows` of the input, all by default, or the reason why none is named.

    The scores of both references in ten bins of equally many documents are the two components of a mixture. They are
    out of fold, so that only their distribution counts, not whether words are independent. Two tests decide whether the
    mixture explains the corpus: the goodness of fit of the scores, and a classifier.
    """
    rows = np.arange(len(corpus.sides["input"].texts)) if rows is None else np.sort(rows)
    if corpus.refusal or len(rows) < MIN_DOCUMENTS:
        few = f"it has {len(rows)} documents of at least {corpus.words} words, and {MIN_DOCUMENTS} are needed"
        return ShareEstimate(len(rows), refusal=corpus.refusal or few)
    edges = _edges(*(corpus.evidence[side].scores for side in SIDES[1:]))
    bins = {side: np.searchsorted(edges, item.scores) for side, item in corpus.evidence.items()}
    bins["input"] = bins["input"][rows]
    counts = [np.bincount(bins[side], minlength=len(edges) + 1) for side in SIDES]
    smooth = [side + 1 / len(side) for side in counts[1:]]
    human, machine = (side / side.sum() for side in smooth)
    # The derivative of a document's log-likelihood by the share: what blocks must not differ in.
    share = float(mixture_share(counts[0], human, machine))
    slopes = (machine - human) / (human + share * (machine - human))
    effects = [_design_effect(slopes[bins[side]], corpus.evidence[side].folds) for side in SIDES[1:]]
    fit = fit_mixture(
        *counts,
        design_effects=(effects[0], effects[1]),
        level=config.level,
        resamples=config.resamples,
        zero_resamples=zero_resamples,
        seed=seed,
    )
    blocks = blocks_of(len(rows))
    by_block = np.stack([np.bincount(bins["input"][blocks == i], minlength=len(edges) + 1) for i in range(FOLDS)])
    shares = [mixture_share(part, human, machine) for part in (by_block, counts[0] - by_block)]
    transfer = classifier_test(corpus.tables, rows, (shares[0], shares[1]))
    refusal = _refusal(fit, transfer, config.transfer_level / _TESTS)
    if refusal:
        return ShareEstimate(len(rows), fit_p=fit.fit_p, transfer=transfer, refusal=refusal)
    return ShareEstimate(len(rows), fit.share, fit.low, fit.high, fit.zero_p, fit.fit_p, transfer)


def _edges(human: Numbers, machine: Numbers) -> Numbers:
    """The inner edges of bins that hold equally much of both references, each of weight one half.

    No bin is empty in both: of equal scores there is one edge, and none at the highest score, beyond which nothing is.
    """
    scores = np.concatenate([human, machine])
    weights = np.repeat([0.5 / len(human), 0.5 / len(machine)], [len(human), len(machine)])
    order = np.argsort(scores, kind="stable")
    shares = np.cumsum(weights[order])
    edges = np.unique(scores[order][np.searchsorted(shares, np.arange(1, _BINS) / _BINS)])
    return np.asarray(edges[edges < scores.max()])


def _design_effect(values: Numbers, folds: NDArray[np.int64]) -> float:
    """The variance of the means of blocks of `values` (n,) over that of as many independent ones, at least 1."""
    sizes = np.bincount(folds, minlength=FOLDS)
    means = np.bincount(folds, values, FOLDS) / sizes
    within = float(((values - means[folds]) ** 2).sum()) / max(1, len(values) - FOLDS) / float(sizes.mean())
    return max(1.0, float(means.var(ddof=1)) / within) if within > 0 else 1.0


def _refusal(fit: MixtureFit, transfer: TransferTest, level: float) -> str:
    if transfer.p < level:
        return (
            f"a classifier tells its documents from those of both references, mixed (AUC "
            f"{transfer.auc:.2f}, p {transfer.p:.2g}): its topic, genre, language, age or model is another. Give "
            "references of its kind"
        )
    if fit.fit_p < level:
        return (
            f"no mixture of the two references explains the evidence of its documents (goodness of fit, p "
            f"{fit.fit_p:.2g}): part of it is like neither. Give references of its kind"
        )
    if fit.low <= _END and fit.high >= 1 - _END:
        return (
            f"its interval is {fit.low:.0%} to {fit.high:.0%}: the references are too much alike, or there are too few "
            "documents. Give more documents of all three"
        )
    return ""
