"""The tables of an audit, as CSV and JSON lines by name.

Rule: a table has one header, a fixed order of rows, and numbers that read back as they were.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.audit.asking import BINS
from tailkeep.audit.comparing import Comparison
from tailkeep.audit.contrasts import Contrast, Importance
from tailkeep.audit.corpus import Corpus
from tailkeep.audit.coverage import Band
from tailkeep.audit.figures import LENGTH_EDGES, REPETITION_EDGES, SURPRISE_EDGES
from tailkeep.redaction import redact

_POINTS = 200
_WEIGHT_BINS = 40


def of_corpora(corpora: Mapping[str, Corpus], top: int) -> dict[str, str]:
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
        "frequent": _table(("side", "n", "text", "count", "at_most"), _frequent(sides, top)),
        "duplicates": _table(
            ("side", "copies", "first_at"),
            ((side, *row) for side, corpus in sides for row in corpus.duplicates.largest),
        ),
    }
    if all("asked/tokens" in corpus.counts for _, corpus in sides):
        edges = np.linspace(0.0, 1.0, BINS + 1).astype(np.float64)
        found["probabilities"] = _table(
            ("side", "from_p", "to_p", "tokens"), _histograms(sides, "asked/probabilities", edges)
        )
        found["surprise"] = _table(
            ("side", "from_nats", "to_nats", "documents"), _histograms(sides, "asked/surprise", SURPRISE_EDGES)
        )
    return {f"tables/{name}.csv": text for name, text in found.items()}


def of_contrasts(
    comparison: Comparison | None,
    bands: Sequence[Band],
    weights: Importance,
    over: Mapping[int, tuple[list[Contrast], list[Contrast]]],
) -> dict[str, str]:
    """What both sides say together."""
    rows = (
        (length, "over" if number == 0 else "under", *astuple(item))
        for length, pair in over.items()
        for number, items in enumerate(pair)
        for item in items
    )
    header = ("n", "in_input", *(field.name for field in fields(Contrast)))
    found = {
        "tables/contrasts.csv": _table(header, rows),
        "tables/coverage.csv": _table([field.name for field in fields(Band)], (astuple(band) for band in bands)),
        "tables/importance.csv": _table(("side", "from_weight", "to_weight", "documents"), _weights(weights)),
        "tables/examples.jsonl": "".join(
            redact(json.dumps(asdict(item), ensure_ascii=False)) + "\n" for item in weights.ends
        ),
    }
    if comparison is not None:
        header = (
            "name",
            "input",
            "against",
            "difference",
            "null_mean",
            "null_low",
            "null_high",
            "p",
            "adjusted_p",
            "flagged",
        )
        tests = (
            (t.name, t.input, t.against, t.difference, *t.null, t.p, t.adjusted, int(t.flagged))
            for t in comparison.tests
        )
        found["tables/tests.csv"] = _table(header, tests)
    return found


def _histograms(
    sides: Sequence[tuple[str, Corpus]], name: str, edges: NDArray[np.float64]
) -> Iterator[tuple[Any, ...]]:
    """Rows from the first bin that either side fills to the last."""
    counts = [corpus.counts[name] for _, corpus in sides]
    filled = np.flatnonzero(np.sum(counts, axis=0))
    for place in range(filled[0], filled[-1] + 1) if len(filled) else ():
        for (side, _), own in zip(sides, counts, strict=True):
            yield side, float(edges[place]), float(edges[place + 1]), int(own[place])


def _buckets(sides: Sequence[tuple[str, Corpus]]) -> Iterator[tuple[Any, ...]]:
    """The concentration curve over hashed n-grams: the fullest buckets first."""
    for side, corpus in sides:
        for length in (1, 2):
            counts = np.sort(corpus.counts[f"buckets/{length}"])[::-1]
            sums = np.cumsum(counts) / max(int(counts.sum()), 1)
            places = np.unique(np.round(np.geomspace(1, len(counts), _POINTS)).astype(int))
            yield from ((side, length, place / len(counts), float(sums[place - 1])) for place in places.tolist())


def _frequent(sides: Sequence[tuple[str, Corpus]], top: int) -> Iterator[tuple[Any, ...]]:
    for side, corpus in sides:
        for length, sketch in corpus.frequent.items():
            for _, text, count in sketch.items()[:top]:
                yield side, length, redact(text), count, count + sketch.error


def _weights(weights: Importance) -> Iterator[tuple[Any, ...]]:
    both = np.concatenate([weights.input, weights.against])
    if not len(both):
        return
    edges = np.linspace(float(both.min()), float(both.max()) + 1e-9, _WEIGHT_BINS + 1)
    for side, own in (("input", weights.input), ("against", weights.against)):
        counts = np.histogram(own, edges)[0]
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
            yield side, float(low), float(high), int(count)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()
