"""What all shards say together: the summary and the tables.

Rule: figures first, tests second, words last; each is made of those before it.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.audit import recommend
from tailkeep.audit.comparison import Comparison, compare
from tailkeep.audit.config import AuditConfig
from tailkeep.audit.corpus_stats import (
    LENGTH_EDGES,
    REPETITION_EDGES,
    SURPRISE_EDGES,
    CorpusStats,
    Local,
    figures_of,
    read_corpus,
    without_nan,
)
from tailkeep.audit.coverage import FrequencyBand, coverage
from tailkeep.audit.findings import Finding, alone, compared, covered
from tailkeep.audit.keywords import Importance, KeywordScore, importance, keyword_scores
from tailkeep.audit.prior_scores import BINS, PriorScorer, load_prior_scorer
from tailkeep.audit.recommend import experiment
from tailkeep.data.corpus import Manifest, total
from tailkeep.errors import InputError
from tailkeep.sanitize import redact, redact_tree
from tailkeep.workers import limited_threads

_MEGABYTE = 1 << 20
_ENDS = 5


@dataclass(frozen=True)
class SummaryFiles:
    """The content of `summary.json`, and the texts of further files by name."""

    summary: Mapping[str, Any]
    files: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class SideComparison:
    """All that needs both sides. `comparison` is None where `refused` says why there could be none."""

    comparison: Comparison | None
    refused: str
    bands: list[FrequencyBand]
    importance: Importance
    over: dict[int, tuple[list[KeywordScore], list[KeywordScore]]]


def summarize(
    config: AuditConfig, manifests: Sequence[Manifest], local: Local, scorer: PriorScorer | None
) -> SummaryFiles:
    """The summary and tables of finished shards.

    Args:
        config: of the audit.
        manifests: of all shards, in their order.
        local: gives their files.
        scorer: the prior, if it is loaded.
    """
    sides = {side: [item for item in manifests if item.shard.startswith(f"{side}/")] for side in ("input", "reference")}
    with limited_threads(config.num_threads):
        corpora = {side: read_corpus(found, local, config) for side, found in sides.items() if found}
        figures = {side: figures_of(corpus, int(total(sides[side])["rejected"])) for side, corpus in corpora.items()}
        found = None
        if "reference" in corpora:
            found = _contrasted(config, corpora, scorer or load_prior_scorer(config))
    # The texts that were read can hold anything; so can the names of files.
    command, lab = experiment({side: corpus.sample for side, corpus in corpora.items()}, config.prior)
    findings = list(_findings(config, figures["input"], found))
    summary: dict[str, Any] = {
        "findings": [asdict(finding) for finding in findings],
        "lab_command": command,
        "mixing": [asdict(advice) for advice in _planned(config, figures)],
        **figures,
    }
    if found is not None:
        comparison = found.comparison
        summary["comparison"] = None if comparison is None else asdict(comparison)
        summary["coverage"] = [asdict(band) for band in found.bands]
        summary["separation_by_importance"] = found.importance.separation
    tables = of_corpora(corpora, config.num_keywords)
    if found is not None:
        tables |= of_contrasts(found.comparison, found.bands, found.importance, found.over)
    return SummaryFiles(without_nan(redact_tree(summary)), {**tables, **lab})


def _contrasted(config: AuditConfig, corpora: Mapping[str, CorpusStats], scorer: PriorScorer | None) -> SideComparison:
    ours, theirs = corpora["input"], corpora["reference"]
    comparison, refused = None, ""
    try:
        ask = scorer.log_probs if scorer else None
        comparison = compare(ours.sample, theirs.sample, config.sample, config.testing, config.seed, ask)
    except InputError as error:
        # Everything else stands; only the tests cannot be made.
        refused = str(error)
    bands = coverage(
        ours.tables,
        theirs.tables,
        (ours.number("words"), theirs.number("words")),
        memory=config.memory_mb * _MEGABYTE // 2,
    )
    buckets = [corpus.counts["buckets/1"] + corpus.counts["buckets/2"] for corpus in (ours, theirs)]
    weights = importance((ours.sample, theirs.sample), (buckets[0], buckets[1]), _ENDS)
    totals = {1: "words", 2: "bigrams"}
    over = {
        length: keyword_scores(
            ours.frequent[length],
            theirs.frequent[length],
            (ours.number(name), theirs.number(name)),
            config.num_keywords,
        )
        for length, name in totals.items()
    }
    return SideComparison(comparison, refused, bands, weights, over)


def _findings(config: AuditConfig, figures: Mapping[str, Any], found: SideComparison | None) -> list[Finding]:
    own = list(alone(figures))
    if found is None:
        told = (
            "No reference was given (--reference), so nothing here can be flagged: the figures have no yardstick. "
            "Compare with text that people wrote, of the same kind."
        )
        return [Finding(False, told, {}), *own]
    band = covered(found.bands)
    if found.comparison is None:
        tests = [Finding(False, f"Nothing was tested: {found.refused}", {})]
    else:
        tests = list(compared(found.comparison, config.testing.level))
    return [*tests, *([band] if band else []), *own]


def _planned(config: AuditConfig, figures: Mapping[str, Mapping[str, Any]]) -> list[recommend.Advice]:
    """With sizes that are given; else, of two corpora, the reference's words as real and the input's as synthetic."""
    if config.mixing is not None:
        return recommend.plan(config.mixing.real, config.mixing.synthetic)
    if "reference" not in figures or not (figures["input"]["words"] and figures["reference"]["words"]):
        return []
    real, synthetic = figures["reference"], figures["input"]
    return recommend.plan(real["words"], synthetic["words"], examples=real["documents"])


# The tables of an audit, as CSV and JSON lines by name.
#
# Rule: a table has one header, a fixed order of rows, and numbers that read back as they were.


_POINTS = 200
_WEIGHT_BINS = 40


def of_corpora(corpora: Mapping[str, CorpusStats], num_keywords: int) -> dict[str, str]:
    """What each side has by itself, both in one table."""
    sides = list(corpora.items())
    found = {
        "lengths": _table(("side", "from_words", "to_words", "documents"), _histograms(sides, "lengths", LENGTH_EDGES)),
        "repetition": _table(
            ("side", "from_share", "to_share", "documents"), _histograms(sides, "repetition", REPETITION_EDGES)
        ),
        "lorenz": _table(
            ("side", "share_of_types", "share_of_words"),
            ((side, *point) for side, corpus in sides for point in corpus.spectrum.curve(_POINTS)),
        ),
        "ranks": _table(
            ("side", "rank", "count"), ((side, *row) for side, corpus in sides for row in corpus.spectrum.ranks())
        ),
        "buckets": _table(("side", "n", "share_of_buckets", "share_of_ngrams"), _buckets(sides)),
        "frequent": _table(("side", "n", "text", "count", "at_most"), _frequent(sides, num_keywords)),
        "duplicates": _table(
            ("side", "copies", "first_at"),
            ((side, *row) for side, corpus in sides for row in corpus.duplicates.largest),
        ),
    }
    if all("prior/tokens" in corpus.counts for _, corpus in sides):
        edges = np.linspace(0.0, 1.0, BINS + 1).astype(np.float64)
        found["probabilities"] = _table(
            ("side", "from_p", "to_p", "tokens"), _histograms(sides, "prior/probabilities", edges)
        )
        found["surprise"] = _table(
            ("side", "from_nats", "to_nats", "documents"), _histograms(sides, "prior/surprise", SURPRISE_EDGES)
        )
    return {f"tables/{name}.csv": text for name, text in found.items()}


def of_contrasts(
    comparison: Comparison | None,
    bands: Sequence[FrequencyBand],
    weights: Importance,
    over: Mapping[int, tuple[list[KeywordScore], list[KeywordScore]]],
) -> dict[str, str]:
    """What both sides say together."""
    rows = (
        (length, "over" if number == 0 else "under", *astuple(item))
        for length, pair in over.items()
        for number, items in enumerate(pair)
        for item in items
    )
    header = ("n", "in_input", *(field.name for field in fields(KeywordScore)))
    found = {
        "tables/contrasts.csv": _table(header, rows),
        "tables/coverage.csv": _table(
            [field.name for field in fields(FrequencyBand)], (astuple(band) for band in bands)
        ),
        "tables/importance.csv": _table(("side", "from_weight", "to_weight", "documents"), _weights(weights)),
        "tables/examples.jsonl": "".join(
            redact(json.dumps(asdict(item), ensure_ascii=False)) + "\n" for item in weights.ends
        ),
    }
    if comparison is not None:
        header = (
            "name",
            "input",
            "reference",
            "difference",
            "null_mean",
            "null_low",
            "null_high",
            "p",
            "adjusted_p",
            "flagged",
        )
        tests = (
            (t.name, t.input, t.reference, t.difference, *t.null, t.p, t.adjusted, int(t.flagged))
            for t in comparison.tests
        )
        found["tables/tests.csv"] = _table(header, tests)
    return found


def _histograms(
    sides: Sequence[tuple[str, CorpusStats]], name: str, edges: NDArray[np.float64]
) -> Iterator[tuple[Any, ...]]:
    """Rows from the first bin that either side fills to the last."""
    counts = [corpus.counts[name] for _, corpus in sides]
    filled = np.flatnonzero(np.sum(counts, axis=0))
    for place in range(filled[0], filled[-1] + 1) if len(filled) else ():
        for (side, _), own in zip(sides, counts, strict=True):
            yield side, float(edges[place]), float(edges[place + 1]), int(own[place])


def _buckets(sides: Sequence[tuple[str, CorpusStats]]) -> Iterator[tuple[Any, ...]]:
    """The concentration curve over hashed n-grams: the fullest buckets first."""
    for side, corpus in sides:
        for length in (1, 2):
            counts = np.sort(corpus.counts[f"buckets/{length}"])[::-1]
            sums = np.cumsum(counts) / max(int(counts.sum()), 1)
            places = np.unique(np.round(np.geomspace(1, len(counts), _POINTS)).astype(int))
            yield from ((side, length, place / len(counts), float(sums[place - 1])) for place in places.tolist())


def _frequent(sides: Sequence[tuple[str, CorpusStats]], num_keywords: int) -> Iterator[tuple[Any, ...]]:
    for side, corpus in sides:
        for length, sketch in corpus.frequent.items():
            for _, text, count in sketch.items()[:num_keywords]:
                yield side, length, redact(text), count, count + sketch.error


def _weights(weights: Importance) -> Iterator[tuple[Any, ...]]:
    both = np.concatenate([weights.input, weights.reference])
    if not len(both):
        return
    edges = np.linspace(float(both.min()), float(both.max()) + 1e-9, _WEIGHT_BINS + 1)
    for side, own in (("input", weights.input), ("reference", weights.reference)):
        counts = np.histogram(own, edges)[0]
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
            yield side, float(low), float(high), int(count)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()
