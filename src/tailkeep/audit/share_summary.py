"""The share of synthetic documents of a finished audit, from the samples of its shards, and the most telling documents.

Rule: the sample is the same however the corpora are split into shards, and so is everything computed from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.audit.config import AuditConfig
from tailkeep.audit.corpus_stats import Local, local_files
from tailkeep.audit.documents import SampledDocument, excerpt, read_sample, smallest
from tailkeep.audit.evidence import MIN_DOCUMENTS, SIDES
from tailkeep.audit.prior_scores import read_statistics
from tailkeep.audit.share import ScoredCorpus, ShareEstimate, estimate_share, score_corpus
from tailkeep.data.corpus import Manifest, name_in_side
from tailkeep.metrics import false_discovery_correction

OTHER_SOURCES = "(all other sources)"
FALSE_DISCOVERIES = 0.05

_NUM_TELLING = 20
_NUM_OF_SOURCE = 3


@dataclass(frozen=True)
class TellingDocument:
    """A document of the input with much evidence for the synthetic reference, in nats if words were independent."""

    location: str
    id: str
    source: str
    evidence: float
    text: str


@dataclass(frozen=True)
class SourceShare:
    """The share of one source.

    Attributes:
        source: its name; `OTHER_SOURCES` are all with too few documents in the sample.
        estimate: its share, or why none is named.
        adjusted_p: the p-value of no synthetic document, corrected for all sources (Benjamini and Hochberg 1995).
        telling: its documents with the most evidence; empty if its share is refused.
    """

    source: str
    estimate: ShareEstimate
    adjusted_p: float | None
    telling: Sequence[TellingDocument]

    @property
    def flagged(self) -> bool:
        """Whether it has synthetic documents, at a false discovery rate of `FALSE_DISCOVERIES` over all sources."""
        return self.adjusted_p is not None and self.adjusted_p <= FALSE_DISCOVERIES


@dataclass(frozen=True, eq=False)
class ShareSummary:
    """The estimate of the whole input, with what it rests on, and the documents with the most evidence.

    Attributes:
        estimate: the share, or why none is named.
        level: the level of its interval.
        words: the number of words to which documents were truncated.
        short: how many documents of the input's sample have fewer words and are not judged.
        separation: the AUC of the evidence in the two references, out of fold.
        uses_prior: whether the scores of a prior are part of the evidence.
        telling: documents of the input, the most evidence first; empty if the share is refused.
        sources: the shares of the sources, those with the most documents first; empty if no field names them.
    """

    estimate: ShareEstimate
    level: float
    words: int
    short: int
    separation: float
    uses_prior: bool
    telling: Sequence[TellingDocument]
    sources: Sequence[SourceShare]

    def figures(self) -> dict[str, Any]:
        """Everything but the documents, as plain values."""
        names = ("level", "words", "short", "separation", "uses_prior")
        return {**asdict(self.estimate), **{name: getattr(self, name) for name in names}}


def summarize_share(config: AuditConfig, sides: Mapping[str, Sequence[Manifest]], local: Local) -> ShareSummary:
    """Estimate the share from the finished shards of all three sides."""
    uses_prior = config.prior is not None
    samples: dict[str, list[SampledDocument]] = {}
    statistics: dict[str, dict[str, NDArray[np.float64]]] = {}
    for side in SIDES:
        samples[side] = []
        for path in local_files(sides[side], "share", local):
            samples[side] = smallest([*samples[side], *read_sample(path)], config.share.documents)
        statistics[side] = _prior_statistics(samples[side], sides[side], local) if uses_prior else {}
    corpus = score_corpus(samples, config.sample, statistics if uses_prior else None)
    estimate = estimate_share(corpus, config.share, config.seed)
    matched = corpus.sides["input"]
    telling = [] if estimate.refusal else _telling(corpus, np.arange(len(matched.documents)), _NUM_TELLING)
    sources = [] if config.share.by is None else _sources(corpus, config)
    return ShareSummary(
        estimate, config.share.level, corpus.words, matched.short, corpus.separation, uses_prior, telling, sources
    )


def _sources(corpus: ScoredCorpus, config: AuditConfig) -> list[SourceShare]:
    """The shares of all sources. A source is judged as the whole input is, and can be refused on its own."""
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(corpus.sides["input"].documents):
        rows.setdefault(item.source, []).append(row)
    few = sorted(row for members in rows.values() if len(members) < MIN_DOCUMENTS for row in members)
    groups = {name: members for name, members in rows.items() if len(members) >= MIN_DOCUMENTS}
    groups |= {OTHER_SOURCES: few} if few else {}
    names = sorted(groups, key=lambda name: (name == OTHER_SOURCES, -len(groups[name]), name))
    members = {name: np.array(groups[name], np.int64) for name in names}
    estimates = {name: estimate_share(corpus, config.share, config.seed, members[name]) for name in names}
    # A source that is refused was looked at too: it counts among the tests, as one that shows nothing.
    p_values = [1.0 if item.zero_p is None else item.zero_p for item in estimates.values()]
    adjusted = dict(zip(estimates, false_discovery_correction(p_values), strict=True))
    return [
        SourceShare(
            name,
            estimate,
            None if estimate.zero_p is None else adjusted[name],
            [] if estimate.refusal else _telling(corpus, members[name], _NUM_OF_SOURCE),
        )
        for name, estimate in estimates.items()
    ]


def _prior_statistics(
    sample: Sequence[SampledDocument], manifests: Sequence[Manifest], local: Local
) -> dict[str, NDArray[np.float64]]:
    """The prior's statistics of the documents of `sample`, by location."""
    rows: dict[str, list[int]] = {}
    for item in sample:
        file, _, row = item.location.rpartition(":")
        rows.setdefault(file, []).append(int(row))
    statistics = {}
    for manifest in manifests:
        key = name_in_side(manifest.shard)
        # The key of row groups is the file's name and their range.
        file = key if key in rows else key.rpartition("/")[0]
        for name in manifest.files("scores") if file in rows else ():
            of_rows = read_statistics(local(name), rows[file])
            statistics.update({f"{file}:{row}": values for row, values in of_rows.items()})
    return statistics


def _telling(corpus: ScoredCorpus, rows: NDArray[np.int64], limit: int) -> list[TellingDocument]:
    documents, scores = corpus.sides["input"].documents, corpus.evidence["input"].scores
    order = rows[np.argsort(-scores[rows], kind="stable")[:limit]].tolist()
    return [
        TellingDocument(item.location, item.id, item.source, float(scores[row]), excerpt(item.text))
        for row, item in ((row, documents[row]) for row in order)
    ]
