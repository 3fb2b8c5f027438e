"""The share of synthetic documents of a finished audit, from the samples of its shards, and the most telling documents.

Rule: the sample is the same however the corpora are split into shards, and so is everything computed from it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.audit.config import AuditConfig
from tailkeep.audit.corpus_stats import Local
from tailkeep.audit.documents import SampledDocument, read_sample, smallest
from tailkeep.audit.evidence import SIDES
from tailkeep.audit.prior_scores import read_statistics
from tailkeep.audit.share import ScoredCorpus, ShareEstimate, estimate_share, score_corpus
from tailkeep.data.corpus import Manifest

_NUM_TELLING = 20
_EXCERPT_CHARACTERS = 600


@dataclass(frozen=True)
class TellingDocument:
    """A document of the input with much evidence for the synthetic reference, in nats if words were independent."""

    location: str
    id: str
    evidence: float
    text: str


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
    """

    estimate: ShareEstimate
    level: float
    words: int
    short: int
    separation: float
    uses_prior: bool
    telling: Sequence[TellingDocument]

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
        samples[side], statistics[side] = [], {}
        for manifest in sides[side]:
            part = read_sample(local(f"share/{manifest.shard}.parquet"))
            samples[side] = smallest([*samples[side], *part], config.share.documents)
            if uses_prior:
                statistics[side] |= _locate(part, local(f"scores/{manifest.shard}.parquet"))
    corpus = score_corpus(samples, config.sample, statistics if uses_prior else None)
    estimate = estimate_share(corpus, config.share, config.seed)
    telling = [] if estimate.refusal else list(_telling(corpus, range(estimate.documents)))
    matched = corpus.sides["input"]
    return ShareSummary(
        estimate, config.share.level, corpus.words, matched.short, corpus.separation, uses_prior, telling
    )


def _locate(part: Sequence[SampledDocument], path: Path) -> dict[str, NDArray[np.float64]]:
    """The statistics of the documents of one shard's sample, by location."""
    rows = {int(item.location.rpartition(":")[2]): item.location for item in part}
    return {rows[row]: values for row, values in read_statistics(path, rows.keys()).items()}


def _telling(corpus: ScoredCorpus, rows: Iterable[int]) -> Iterable[TellingDocument]:
    scores = corpus.evidence["input"].scores
    for row in sorted(rows, key=lambda row: -scores[row])[:_NUM_TELLING]:
        item = corpus.sides["input"].documents[row]
        yield TellingDocument(item.location, item.id, float(scores[row]), item.text[:_EXCERPT_CHARACTERS])
