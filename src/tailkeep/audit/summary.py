"""The summary and the tables of an audit, from the files of its shards.

Rules: figures first, tests second, sentences last; each is computed from those before it. A table has one header, a
fixed order of rows, and numbers that round-trip.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.audit.comparison import Comparison, compare
from tailkeep.audit.config import AuditConfig, flagged_names
from tailkeep.audit.corpus_stats import (
    LENGTH_EDGES,
    REPETITION_EDGES,
    SURPRISE_EDGES,
    CorpusStats,
    Local,
    corpus_figures,
    read_corpus,
)
from tailkeep.audit.evidence import SIDES
from tailkeep.audit.findings import (
    SECOND,
    SYNTHETIC,
    Finding,
    Origins,
    comparison_findings,
    corpus_findings,
    coverage_finding,
    language_finding,
)
from tailkeep.audit.keywords import (
    FrequencyBand,
    ImportanceWeights,
    KeywordScore,
    coverage,
    importance_weights,
    keyword_scores,
)
from tailkeep.audit.prior_scores import BINS, PriorScorer, load_prior_scorer
from tailkeep.audit.recommend import Advice, lab_experiment, plan_mixing
from tailkeep.audit.share_summary import SourceShare, share_finding, source_finding, summarize_share
from tailkeep.audit.templates import Boilerplate, find_boilerplate
from tailkeep.data.corpus import MEGABYTE, Manifest, SummaryOutcome, sum_counts
from tailkeep.errors import InputError
from tailkeep.runs import csv_text
from tailkeep.sanitize import excerpt, redact, redact_tree, without_nan
from tailkeep.workers import limited_threads

_NUM_EXAMPLES = 5


@dataclass(frozen=True)
class AuditOutcome(SummaryOutcome):
    """The totals over the finished shards of an audit, and its summary."""

    @property
    def flagged(self) -> list[str]:
        """The names of the statistics and of the features of language that differ significantly after correction."""
        comparison = self.summary.get("comparison")
        return flagged_names(comparison) if comparison else []

    def lines(self) -> list[str]:
        """The findings, one sentence per line."""
        lines = super().lines()
        lines += [
            f"{'[flagged] ' if finding['flagged'] else ''}{finding['sentence']} {finding['caveat']}".rstrip()
            for finding in self.summary.get("findings", ())
        ]
        mixing = self.summary.get("mixing", ())
        for advice in (item for item in mixing if item["from_counts"]):
            weight = "" if advice["real_weight"] is None else f" (weight of real data {advice['real_weight']:.2f})"
            lines.append(f"mixing: {advice['rule']}{weight}; {advice['source']}; assumes: {advice['assumes']}")
        if rules := sum(not item["from_counts"] for item in mixing):
            lines.append(
                f"mixing: {rules} rules from the literature, by sizes alone, are in summary.json and the report"
            )
        if command := self.summary.get("lab_command"):
            lines.append(f"to measure it with a model, run in the output folder: {command}")
        return lines


@dataclass(frozen=True)
class SummaryFiles:
    """The content of `summary.json`, and the texts of further files by name."""

    summary: Mapping[str, Any]
    files: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class SideComparison:
    """Everything that needs both sides. `comparison` is None if `not_tested` says why the tests are impossible.

    `origins` are the same tests of further references against the first.
    """

    comparison: Comparison | None
    not_tested: str
    bands: list[FrequencyBand]
    importance: ImportanceWeights
    keywords: dict[int, tuple[list[KeywordScore], list[KeywordScore]]]
    origins: Origins


def summarize(
    config: AuditConfig, manifests: Sequence[Manifest], local: Local, scorer: PriorScorer | None
) -> SummaryFiles:
    """Summarize the finished shards of an audit.

    Args:
        config: configuration of the audit.
        manifests: manifests of all shards, in order.
        local: returns local copies of their files.
        scorer: the prior, if it is loaded already.
    """
    sides = {side: [item for item in manifests if item.shard.startswith(f"{side}/")] for side in (*SIDES, SECOND)}
    with limited_threads(config.num_threads):
        corpora = {side: read_corpus(shards, local, config) for side, shards in sides.items() if shards}
        figures = {
            side: corpus_figures(corpus, int(sum_counts(sides[side])["rejected"])) for side, corpus in corpora.items()
        }
        boilerplate = {
            side: find_boilerplate(corpus.sample, num_spans=config.num_keywords) for side, corpus in corpora.items()
        }
        for side, shared_text in boilerplate.items():
            figures[side] |= without_nan(shared_text.figures())
        both = None
        if "reference" in corpora:
            both = _compare_sides(config, corpora, scorer or load_prior_scorer(config))
        share = summarize_share(config, sides, local) if "synthetic" in corpora else None
    command, lab = lab_experiment({side: corpus.sample for side, corpus in corpora.items()}, config.prior)
    of_share = [share_finding(share), source_finding(share)] if share else []
    findings = [*(item for item in of_share if item), *_findings(config, figures["input"], both)]
    summary: dict[str, Any] = {
        "findings": [asdict(finding) for finding in findings],
        "lab_command": command,
        "mixing": [
            asdict(advice) for advice in (_mixing_advice(config, figures, corpora) if both and both.comparison else ())
        ],
        **figures,
    }
    if both is not None:
        summary["comparison"] = None if both.comparison is None else asdict(both.comparison)
        summary["coverage"] = [asdict(band) for band in both.bands]
        summary["separation_by_importance"] = both.importance.separation
    if share is not None:
        summary["share"] = share.figures()
    tables = corpus_tables(corpora, config.num_keywords) | boilerplate_tables(boilerplate)
    if both is not None:
        tables |= comparison_tables(both)
    if share is not None:
        tables["tables/telling.jsonl"] = _as_lines(map(asdict, share.telling))
        if share.sources:
            tables["tables/sources.csv"] = csv_text(_SOURCE_HEADER, map(_source_row, share.sources))
            tables["tables/source_documents.jsonl"] = _as_lines(
                asdict(document) for item in share.sources for document in item.telling
            )
    # Texts and file names of the corpora can contain credentials.
    return SummaryFiles(without_nan(redact_tree(summary)), {**tables, **lab})


def _compare_sides(
    config: AuditConfig, corpora: Mapping[str, CorpusStats], scorer: PriorScorer | None
) -> SideComparison:
    input_stats, reference_stats = corpora["input"], corpora["reference"]
    samples = input_stats.sample, reference_stats.sample
    comparison, not_tested = None, ""
    try:
        log_probs = scorer.log_probs if scorer else None
        comparison = compare(*samples, config.sample, config.testing, config.seed, log_probs)
    except InputError as error:
        # Only the tests are impossible. Everything else can be computed.
        not_tested = str(error)
    bands = coverage(
        input_stats.tables,
        reference_stats.tables,
        (input_stats.number("words"), reference_stats.number("words")),
        memory=config.memory_mb * MEGABYTE // 2,
    )
    buckets = [stats.counts["buckets/1"] + stats.counts["buckets/2"] for stats in (input_stats, reference_stats)]
    weights = importance_weights(samples, (buckets[0], buckets[1]), _NUM_EXAMPLES)
    keywords = {
        length: keyword_scores(
            input_stats.frequent[length],
            reference_stats.frequent[length],
            (input_stats.number(name), reference_stats.number(name)),
            config.num_keywords,
        )
        for length, name in {1: "words", 2: "bigrams"}.items()
    }
    differs = comparison is not None and any(test.flagged for test in comparison.all_tests)
    origins = _compare_references(config, corpora, scorer) if differs else Origins()
    return SideComparison(comparison, not_tested, bands, weights, keywords, origins)


def _compare_references(config: AuditConfig, corpora: Mapping[str, CorpusStats], scorer: PriorScorer | None) -> Origins:
    """The tests of the further references against the first."""
    comparisons, not_tested = {}, {}
    for side in (SECOND, SYNTHETIC):
        if side in corpora:
            samples = corpora[side].sample, corpora["reference"].sample
            log_probs = scorer.log_probs if scorer else None
            try:
                comparisons[side] = compare(*samples, config.sample, config.testing, config.seed, log_probs)
            except InputError as error:
                not_tested[side] = str(error)
    return Origins(comparisons, not_tested)


def _findings(config: AuditConfig, figures: Mapping[str, Any], both: SideComparison | None) -> list[Finding]:
    of_input = list(corpus_findings(figures, config.near_duplicates))
    if both is None:
        sentence = (
            "Nothing is flagged, since there is no reference (--reference) to compare with. "
            "Compare with human text of the same kind."
        )
        return [Finding(False, sentence, {}), *of_input]
    band = coverage_finding(both.bands)
    if both.comparison is None:
        tests = [Finding(False, f"Nothing was tested: {both.not_tested}", {})]
    else:
        level = config.testing.level
        tests = [
            *comparison_findings(both.comparison, level, both.origins, config.layout.document_separator),
            language_finding(both.comparison, level, both.origins),
        ]
    return [*tests, *([band] if band else []), *of_input]


def _mixing_advice(
    config: AuditConfig, figures: Mapping[str, Mapping[str, Any]], corpora: Mapping[str, CorpusStats]
) -> list[Advice]:
    """Advice for the configured sizes, else for the words of the reference (real) and of the input (synthetic)."""
    spectrum = corpora["reference"].spectrum.types
    if config.mixing is not None:
        return plan_mixing(config.mixing.real, config.mixing.synthetic, spectrum=spectrum)
    if not (figures["input"]["words"] and figures["reference"]["words"]):
        return []
    real, synthetic = figures["reference"], figures["input"]
    return plan_mixing(real["words"], synthetic["words"], examples=real["documents"], spectrum=spectrum)


_POINTS = 200
_WEIGHT_BINS = 40


def corpus_tables(corpora: Mapping[str, CorpusStats], num_keywords: int) -> dict[str, str]:
    """The tables of each side, both sides in one table."""
    sides = list(corpora.items())
    tables = {
        "lengths": csv_text(
            ("side", "from_words", "to_words", "documents"), _histograms(sides, "lengths", LENGTH_EDGES)
        ),
        "repetition": csv_text(
            ("side", "from_share", "to_share", "documents"), _histograms(sides, "repetition", REPETITION_EDGES)
        ),
        "lorenz": csv_text(
            ("side", "share_of_types", "share_of_words"),
            ((side, *point) for side, corpus in sides for point in corpus.spectrum.curve(_POINTS)),
        ),
        "ranks": csv_text(
            ("side", "rank", "count"), ((side, *row) for side, corpus in sides for row in corpus.spectrum.ranks())
        ),
        "buckets": csv_text(("side", "n", "share_of_buckets", "share_of_ngrams"), _buckets(sides)),
        "frequent": csv_text(("side", "n", "text", "count", "at_most"), _frequent(sides, num_keywords)),
        "duplicates": csv_text(
            ("side", "copies", "first_at"),
            ((side, copies, redact(place)) for side, corpus in sides for copies, place in corpus.duplicates.largest),
        ),
    }
    if all("prior/tokens" in corpus.counts for _, corpus in sides):
        edges = np.linspace(0.0, 1.0, BINS + 1).astype(np.float64)
        tables["probabilities"] = csv_text(
            ("side", "from_p", "to_p", "tokens"), _histograms(sides, "prior/probabilities", edges)
        )
        tables["surprise"] = csv_text(
            ("side", "from_nats", "to_nats", "documents"), _histograms(sides, "prior/surprise", SURPRISE_EDGES)
        )
    return {f"tables/{name}.csv": text for name, text in tables.items()}


def boilerplate_tables(sides: Mapping[str, Boilerplate]) -> dict[str, str]:
    """The templates and the shared spans of each side."""
    templates = ({"side": side, **asdict(one)} for side, shared in sides.items() for one in shared.templates)
    spans = ((side, redact(span.text), span.documents) for side, shared in sides.items() for span in shared.spans)
    return {
        "tables/templates.jsonl": _as_lines(templates),
        "tables/boilerplate.csv": csv_text(("side", "text", "documents"), spans),
    }


def comparison_tables(both: SideComparison) -> dict[str, str]:
    """The tables of both sides together."""
    rows = (
        (length, direction, excerpt(keyword.text), *astuple(keyword)[1:])
        for length, lists in both.keywords.items()
        for direction, keywords in zip(("over", "under"), lists, strict=True)
        for keyword in keywords
    )
    header = ("n", "in_input", *(field.name for field in fields(KeywordScore)))
    tables = {
        "tables/keywords.csv": csv_text(header, rows),
        "tables/coverage.csv": csv_text(
            [field.name for field in fields(FrequencyBand)], (astuple(band) for band in both.bands)
        ),
        "tables/importance.csv": csv_text(("side", "from_weight", "to_weight", "documents"), _weights(both.importance)),
        "tables/examples.jsonl": _as_lines(map(asdict, both.importance.examples)),
    }
    if both.comparison is not None:
        null = ("null_mean", "null_low", "null_high")
        header = ("name", "input", "reference", "difference", *null, "p", "adjusted_p", "flagged")
        for name, family in (("tests", both.comparison.tests), ("language", both.comparison.language)):
            rows = (
                (t.name, t.input, t.reference, t.difference, *t.null, t.p, t.adjusted, int(t.flagged)) for t in family
            )
            tables[f"tables/{name}.csv"] = csv_text(header, rows)
    return tables


_SOURCE_HEADER = ("source", "documents", "share", "low", "high", "p", "adjusted_p", "flagged", "refusal", "telling")


def _source_row(item: SourceShare) -> tuple[Any, ...]:
    estimate = item.estimate
    figures = (estimate.share, estimate.low, estimate.high, estimate.zero_p, item.adjusted_p, int(item.flagged))
    telling = " ".join(document.location for document in item.telling)
    return redact(item.source), estimate.documents, *figures, estimate.refusal, redact(telling)


def _as_lines(items: Iterable[Mapping[str, Any]]) -> str:
    # Values, not lines: a private key whose end is cut off goes on to the end of its text.
    return "".join(json.dumps(redact_tree(item), ensure_ascii=False) + "\n" for item in items)


def _histograms(
    sides: Sequence[tuple[str, CorpusStats]], name: str, edges: NDArray[np.float64]
) -> Iterator[tuple[Any, ...]]:
    """Rows from the first to the last bin that is not empty on both sides."""
    counts = [corpus.counts[name] for _, corpus in sides]
    filled = np.flatnonzero(np.sum(counts, axis=0))
    for bin_ in range(filled[0], filled[-1] + 1) if len(filled) else ():
        for (side, _), side_counts in zip(sides, counts, strict=True):
            yield side, float(edges[bin_]), float(edges[bin_ + 1]), int(side_counts[bin_])


def _buckets(sides: Sequence[tuple[str, CorpusStats]]) -> Iterator[tuple[Any, ...]]:
    """The concentration curve of hashed n-grams, the fullest buckets first."""
    for side, corpus in sides:
        for length in (1, 2):
            counts = np.sort(corpus.counts[f"buckets/{length}"])[::-1]
            sums = np.cumsum(counts) / max(int(counts.sum()), 1)
            ranks = np.unique(np.round(np.geomspace(1, len(counts), _POINTS)).astype(int))
            yield from ((side, length, rank / len(counts), float(sums[rank - 1])) for rank in ranks.tolist())


def _frequent(sides: Sequence[tuple[str, CorpusStats]], num_keywords: int) -> Iterator[tuple[Any, ...]]:
    for side, corpus in sides:
        for length, sketch in corpus.frequent.items():
            for _, text, count in sketch.items()[:num_keywords]:
                yield side, length, excerpt(text), count, count + sketch.error


def _weights(weights: ImportanceWeights) -> Iterator[tuple[Any, ...]]:
    both = np.concatenate([weights.input, weights.reference])
    if not len(both):
        return
    edges = np.linspace(float(both.min()), float(both.max()) + 1e-9, _WEIGHT_BINS + 1)
    for side, values in (("input", weights.input), ("reference", weights.reference)):
        counts = np.histogram(values, edges)[0]
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
            yield side, float(low), float(high), int(count)
