"""The share of synthetic documents of a finished audit: samples in, the share with its sentences out.

Rules: the sample is the same however the corpora are split into shards, and so is everything computed from it. No
number stands beside a refusal.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.audit.config import AuditConfig
from tailkeep.audit.corpus_stats import Local, local_files
from tailkeep.audit.documents import SampledDocument, read_sample, smallest
from tailkeep.audit.evidence import MIN_DOCUMENTS, SIDES
from tailkeep.audit.findings import MAX_NAMED, Finding
from tailkeep.audit.prior_scores import read_statistics
from tailkeep.audit.share import ScoredCorpus, ShareEstimate, estimate_share, score_corpus
from tailkeep.data.corpus import Manifest, name_in_side
from tailkeep.metrics import ZERO_RESAMPLES, false_discovery_correction
from tailkeep.sanitize import excerpt

OTHER_SOURCES = "(all other sources)"
FALSE_DISCOVERIES = 0.05

_NUM_TELLING = 20
_NUM_OF_SOURCE = 3
_ZERO_LEVEL = 0.05
_SMALL = 0.05
"""The smallest share whose interval held on the one division that development never saw.

See docs/auditing/synthetic-share.md.
"""


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
    # One source among so many must be able to pass the correction.
    resamples = max(ZERO_RESAMPLES, math.ceil(2 * len(names) / FALSE_DISCOVERIES))
    estimates = {
        name: estimate_share(corpus, config.share, config.seed, members[name], zero_resamples=resamples)
        for name in names
    }
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


def share_finding(share: ShareSummary) -> Finding:
    """How many documents are like the synthetic reference, with the interval, or why no share is named."""
    estimate, source = share.estimate, "mixture of both references, Liang et al. 2024 (arXiv 2403.07183)"
    if estimate.refusal:
        sentence = f"No share of documents like the synthetic reference is named: {estimate.refusal}."
        return Finding(False, sentence, share.figures(), source)
    assert estimate.share is not None
    assert estimate.zero_p is not None
    short = f"; {share.short:,} shorter ones are not judged" if share.short else ""
    small = (
        " Below 5 % it hangs on how well the human reference stands for the corpus." if estimate.share < _SMALL else ""
    )
    is_significant = estimate.zero_p <= _ZERO_LEVEL
    zero = "" if is_significant else f" It is not significantly above 0 (p {estimate.zero_p:.2g})."
    return Finding(
        is_significant,
        f"{estimate.share:.1%} of its documents are like the synthetic reference ({share.level:.0%} CI "
        f"{estimate.low:.1%} to {estimate.high:.1%}; {estimate.documents:,} documents of {share.words} words{short})."
        + zero,
        share.figures(),
        source,
        "Text of models unlike that reference can be missed: of all synthetic text only the lower end holds. Human "
        "text that is nearer to it than the human reference is, by less than the tests detect, counts as synthetic."
        + small,
    )


def source_finding(share: ShareSummary) -> Finding | None:
    """Which sources have documents like the synthetic reference; None without sources."""
    sources = share.sources
    if not sources:
        return None
    flagged = sorted((item for item in sources if item.flagged), key=lambda item: -(item.estimate.low or 0))
    named = _listed(
        f"{item.source} {item.estimate.share:.1%} ({item.estimate.low:.1%} to {item.estimate.high:.1%})"
        for item in flagged
    )
    refused = _listed(item.source for item in sources if item.estimate.refusal)
    without = f" No share is named for {refused}: such a source can hold synthetic text too." if refused else ""
    return Finding(
        bool(flagged),
        f"Sources with documents like the synthetic reference: {len(flagged)} of {len(sources)} (false discovery rate "
        f"{FALSE_DISCOVERIES:.0%})" + (f": {named}." if flagged else ".") + without,
        {item.source: asdict(item.estimate) for item in sources},
        "false discoveries, Benjamini and Hochberg 1995",
        "A source is judged by its documents in the sample, with the references of the whole corpus: audit one of "
        "another genre alone, with references of its kind. Sources with fewer than "
        f"{MIN_DOCUMENTS} documents of {share.words} words are judged together.",
    )


def _listed(names: Iterable[str]) -> str:
    named = list(names)
    more = f" and {len(named) - MAX_NAMED} more, see tables/sources.csv" if len(named) > MAX_NAMED else ""
    return ", ".join(named[:MAX_NAMED]) + more
