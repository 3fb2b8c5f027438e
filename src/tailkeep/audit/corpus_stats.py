"""One side of an audit: the files of its shards merged, and the figures computed from them.

Rules: shards are merged in the order of their names. A figure that depends on the size of a corpus cannot be compared
between corpora; the tests of `comparison` can, since they use equally much text.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.audit.config import AuditConfig
from tailkeep.audit.documents import SampledDocument, read_sample, smallest
from tailkeep.audit.prior_scores import CONFIDENCE_THRESHOLDS, MICRO, SURPRISE_BINS, SURPRISE_STEP
from tailkeep.audit.shard import read_counts, read_frequent
from tailkeep.data.corpus import MEGABYTE, Manifest, file_of_key, name_in_side
from tailkeep.data.count_tables import CountRows, merge_rows, read_ranges, read_spectrum
from tailkeep.data.counters import (
    BINS_PER_OCTAVE,
    LENGTH_BINS,
    MAX_FREQUENT,
    MAX_N,
    REPETITION_BINS,
    ROWS_PER_FILE,
    Counts,
    merge_counts,
)
from tailkeep.data.sketches import DISTINCT_ERROR, FrequentItems, count_distinct
from tailkeep.metrics import concentration, entropy, zipf_slope
from tailkeep.sanitize import without_nan

_SLOPE_LAST = 1000


@dataclass(frozen=True)
class Spectrum:
    """The frequency spectrum: `types` maps a frequency to the number of types with it, so it fits into memory."""

    types: Counter[int]

    def figures(self) -> dict[str, float]:
        """Concentration of the words of the whole corpus. All but the slope depend on its size."""
        if not self.types:
            return {}
        frequencies = np.array(sorted(self.types, reverse=True), np.float64)
        numbers = np.array([self.types[int(value)] for value in frequencies], np.float64)
        items, types = float(frequencies @ numbers), float(numbers.sum())
        return {
            "types": types,
            "entropy": float(np.log(items) - (numbers * frequencies) @ np.log(frequencies) / items),
            "gini": _spectrum_gini(frequencies[::-1], numbers[::-1]),
            "top_100_share": _top_count(frequencies, numbers, 100) / items,
            "zipf_slope": zipf_slope(_head(frequencies, numbers, _SLOPE_LAST)),
            "once_share_of_types": self.types[1] / types,
            "unseen_mass": self.types[1] / items,
            "tail_mass": float(sum(value * number for value, number in self.types.items() if value <= _RARE)) / items,
        }

    def curve(self, points: int = 200) -> list[tuple[float, float]]:
        """The Lorenz curve of types, rare ones first: pairs of shares of the types and of their occurrences."""
        frequencies = np.array(sorted(self.types), np.float64)
        numbers = np.array([self.types[int(value)] for value in frequencies], np.float64)
        x, y = np.cumsum(numbers), np.cumsum(numbers * frequencies)
        # Without types the first point is the only one.
        steps = np.unique(np.linspace(0, len(x) - 1, min(points, len(x))).astype(int)).tolist()
        return [(0.0, 0.0), *((float(x[i] / x[-1]), float(y[i] / y[-1])) for i in steps)]

    def ranks(self) -> list[tuple[int, int]]:
        """(rank, frequency) at ranks a quarter of an octave apart."""
        points, rank = [], 0
        remaining = _rank_steps(sum(self.types.values()))
        for frequency in sorted(self.types, reverse=True):
            rank += self.types[frequency]
            while remaining and remaining[0] <= rank:
                points.append((remaining.pop(0), frequency))
        return points


_RARE = 3
"""Words that occur at most so often are the tail."""


def _rank_steps(last: int) -> list[int]:
    ranks = {int(2 ** (step / 4)) for step in range(4 * max(last, 1).bit_length() + 1)}
    return [rank for rank in sorted(ranks) if rank <= last]


def _spectrum_gini(frequencies: NDArray[np.float64], numbers: NDArray[np.float64]) -> float:
    """Twice the area between the Lorenz curve and the diagonal, from ascending frequencies."""
    types, items = numbers.sum(), frequencies @ numbers
    y = np.concatenate([[0.0], np.cumsum(frequencies * numbers) / items])
    return float(1 - (numbers / types) @ (y[1:] + y[:-1]))


def _top_count(frequencies: NDArray[np.float64], numbers: NDArray[np.float64], types: int) -> float:
    before = np.concatenate([[0.0], np.cumsum(numbers)[:-1]])
    return float(frequencies @ np.clip(types - before, 0, numbers))


def _head(frequencies: NDArray[np.float64], numbers: NDArray[np.float64], ranks: int) -> NDArray[np.float64]:
    """The frequencies of the first `ranks` types."""
    rows = int(np.searchsorted(np.cumsum(numbers), ranks)) + 1
    return np.repeat(frequencies[:rows], numbers[:rows].astype(np.int64))[:ranks]


def histogram_quantiles(histogram: Iterable[int], edges: NDArray[np.float64], shares: Iterable[float]) -> list[float]:
    """Quantiles at `shares` of a histogram with bin `edges` (bins + 1,), by linear interpolation within a bin."""
    counts = np.array(list(histogram), np.float64)
    total = counts.sum()
    if not total:
        return [float("nan") for _ in shares]
    filled = np.flatnonzero(counts)
    ends = np.cumsum(counts[filled]) / total
    quantiles = []
    for share in shares:
        place = min(int(np.searchsorted(ends, share)), len(filled) - 1)
        bin_, size = filled[place], counts[filled[place]] / total
        within = min(1.0, max(0.0, (share - (ends[place] - size)) / size))
        quantiles.append(float(edges[bin_] + within * (edges[bin_ + 1] - edges[bin_])))
    return quantiles


Local = Callable[[str], Path]
"""The name of an output file -> the path of a local copy."""

_NUM_LARGEST = 10


@dataclass(frozen=True)
class Duplicates:
    """Exact duplicates.

    Attributes:
        documents: the number of documents.
        copies: how many of them are copies of an earlier one.
        groups: the number of different documents that occur more than once.
        largest: (count, file and row of the first) of the largest groups.
    """

    documents: int = 0
    copies: int = 0
    groups: int = 0
    largest: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class CorpusStats:
    """The merged counts of one side.

    Attributes:
        counts: see `ShardCounter.counts`; they include `documents`, `bytes` and `words`.
        frequent: the most frequent words (1) and word pairs (2).
        sample: the sampled documents, see `HashSample`.
        spectrum: the frequency spectrum of all words.
        duplicates: exact duplicates.
        near: the number of near duplicates of an earlier document; None if not counted.
        tables: the files of the types.
    """

    counts: Counts
    frequent: dict[int, FrequentItems]
    sample: list[SampledDocument]
    spectrum: Spectrum
    duplicates: Duplicates
    near: int | None
    tables: list[Path]

    def number(self, name: str) -> int:
        """The scalar count `name`; 0 if it is missing."""
        return int(self.counts[name][0]) if name in self.counts else 0


def read_corpus(manifests: Sequence[Manifest], local: Local, config: AuditConfig) -> CorpusStats:
    """Merge the files of the shards of one side."""
    memory = config.memory_mb * MEGABYTE // 2
    counts: Counts = {}
    frequent = {length: FrequentItems(MAX_FREQUENT) for length in (1, 2)}
    sample: list[SampledDocument] = []
    for path in local_files(manifests, "counts", local):
        counts = merge_counts([counts, read_counts(path)])
    for path in local_files(manifests, "frequent", local):
        for length, sketch in read_frequent(path, MAX_FREQUENT).items():
            frequent[length].merge(sketch)
    for path in local_files(manifests, "sample", local):
        sample = smallest([*sample, *read_sample(path)], config.sample.documents)
    tables = local_files(manifests, "types", local)
    spectrum = Spectrum(read_spectrum(tables, memory=memory))
    near = _count_near_duplicates(manifests, local, memory) if config.near_duplicates else None
    return CorpusStats(counts, frequent, sample, spectrum, _find_duplicates(manifests, local, memory), near, tables)


def _find_duplicates(manifests: Sequence[Manifest], local: Local, memory: int) -> Duplicates:
    names = [file for file, _ in _tables_by_number(manifests, "duplicates")]
    documents = distinct = groups = 0
    largest: list[tuple[int, int, int]] = []
    for rows in _merge_places(manifests, "duplicates", local, memory):
        documents += int(rows.counts.sum())
        distinct += len(rows)
        repeated = np.flatnonzero(rows.counts > 1)
        groups += len(repeated)
        top = repeated[np.argsort(-rows.counts[repeated], kind="stable")[:_NUM_LARGEST]]
        origins = (divmod(value, ROWS_PER_FILE) for value in rows.others[top].tolist())
        largest += [
            (count, number, row) for count, (number, row) in zip(rows.counts[top].tolist(), origins, strict=True)
        ]
    largest.sort(key=lambda item: (-item[0], item[1], item[2]))
    named = [(count, f"{names[number]}:{row}") for count, number, row in largest[:_NUM_LARGEST]]
    return Duplicates(documents, documents - distinct, groups, named)


def _count_near_duplicates(manifests: Sequence[Manifest], local: Local, memory: int) -> int:
    """The number of documents that share a band with an earlier one."""
    near = np.zeros(0, np.int64)
    for rows in _merge_places(manifests, "near_duplicates", local, memory):
        near = np.union1d(near, rows.others[1:][rows.hashes[1:] == rows.hashes[:-1]])
    return len(near)


def local_files(manifests: Sequence[Manifest], kind: str, local: Local) -> list[Path]:
    """Local copies of all files of one `kind` of shards and bundles, in their order."""
    return [local(name) for manifest in manifests for name in manifest.files(kind)]


def _merge_places(manifests: Sequence[Manifest], kind: str, local: Local, memory: int) -> Iterator[CountRows]:
    """Ranges of the rows of all tables of `kind`; the file number of a place is that in `_tables_by_number`."""
    tables = _tables_by_number(manifests, kind)
    paths = {number: local(table) for number, (_, table) in enumerate(tables) if table}
    for parts in read_ranges(list(paths.values()), memory=memory):
        placed = [
            CountRows(rows.hashes, rows.counts, rows.others + number * ROWS_PER_FILE)
            for number, rows in zip(paths, parts, strict=True)
        ]
        yield merge_rows(placed, "first" if kind == "duplicates" else "separate")


def _tables_by_number(manifests: Sequence[Manifest], kind: str) -> list[tuple[str, str]]:
    """The file and the table of each file or part of one.

    A bundle has one table, its first file's, which numbers the others from it on; they have none.
    """
    files = [file_of_key(name_in_side(manifest.shard)) for manifest in manifests]
    return [
        (file, table) for file, manifest in zip(files, manifests, strict=True) for table in manifest.files(kind) or [""]
    ]


Tree = dict[str, Any]

_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
_NAMES = ("p5", "p25", "median", "p75", "p95")
_TOP = 100
LENGTH_EDGES = 2 ** (np.arange(LENGTH_BINS + 1) / BINS_PER_OCTAVE) - 1
REPETITION_EDGES = np.linspace(0, 1, REPETITION_BINS + 1)
SURPRISE_EDGES: NDArray[np.float64] = np.arange(SURPRISE_BINS + 1, dtype=np.float64) * SURPRISE_STEP


def corpus_figures(corpus: CorpusStats, rejected: int) -> Tree:
    """All figures of `corpus` as plain numbers by name. `rejected` documents could not be read."""
    documents = corpus.number("documents")
    figures: Tree = {
        "documents": documents,
        "rejected": rejected,
        "bytes": corpus.number("bytes"),
        "words": corpus.number("words"),
        "words_per_document": _quantiles(corpus.counts["lengths"], LENGTH_EDGES),
        "exact_duplicates": corpus.duplicates.copies,
        "exact_duplicates_share": _ratio(corpus.duplicates.copies, documents),
        "repeated_4grams_share": 1 - _ratio(corpus.number("different_runs"), corpus.number("runs")),
        "repetition_per_document": _quantiles(corpus.counts["repetition"], REPETITION_EDGES),
        "spectrum": corpus.spectrum.figures(),
        "buckets": {str(length): _concentration(corpus.counts[f"buckets/{length}"]) for length in (1, 2)},
        "distinct": _distinct(corpus),
        "distinct_error": DISTINCT_ERROR,
        "frequent_error": {str(length): sketch.error for length, sketch in corpus.frequent.items()},
    }
    if corpus.near is not None:
        figures["near_duplicates"] = corpus.near
        figures["near_duplicates_share"] = _ratio(corpus.near, documents)
    if "compressed/before" in corpus.counts:
        # A corpus shorter than one block has no ratio.
        figures["compression"] = _ratio(corpus.number("compressed/before"), corpus.number("compressed/after"))
    if "prior/tokens" in corpus.counts:
        figures["prior"] = prior_figures(corpus)
    finite: Tree = without_nan(figures)
    return finite


def prior_figures(corpus: CorpusStats) -> Tree:
    """Perplexity and confidence of the prior over all documents."""
    tokens = corpus.number("prior/tokens")
    surprise = _ratio(corpus.number("prior/micronats"), MICRO * tokens)
    over = {str(p): _ratio(corpus.number(f"prior/over_{p}"), tokens) for p in CONFIDENCE_THRESHOLDS}
    low, _, middle, _, high = histogram_quantiles(corpus.counts["prior/surprise"], SURPRISE_EDGES, _SHARES)
    return {
        "tokens": tokens,
        "surprise": surprise,
        "perplexity": math.exp(surprise) if tokens else math.nan,
        "document_perplexity": {
            name: math.exp(value) for name, value in zip(("p5", "median", "p95"), (low, middle, high), strict=True)
        },
        "over": over,
        "toedit_would_flag": over["0.99"],
        "tce_would_truncate": over,
    }


def _distinct(corpus: CorpusStats) -> Tree:
    """distinct-n: the number of different n-grams over the number of n-grams, by n."""
    words, types = corpus.number("words"), corpus.spectrum.figures().get("types", math.nan)
    distinct = {"1": _ratio(types, words)}
    lengths = corpus.number("bigrams"), corpus.number("trigrams"), corpus.number("runs")
    for length, total in zip(range(2, MAX_N + 1), lengths, strict=True):
        distinct[str(length)] = min(_ratio(count_distinct(corpus.counts[f"most/distinct/{length}"]), total), 1.0)
    return distinct


def _concentration(counts: NDArray[np.int64]) -> Tree:
    values = counts.astype(np.float64)
    unequal, top = concentration(values, _TOP)
    return {
        "entropy": float(entropy(values)),
        "gini": float(unequal),
        f"top_{_TOP}_share": float(top),
        "empty": int((counts == 0).sum()),
    }


def _quantiles(histogram: NDArray[np.int64], edges: NDArray[np.float64]) -> Tree:
    return dict(zip(_NAMES, histogram_quantiles(histogram.tolist(), edges, _SHARES), strict=True))


def _ratio(count: float, total: float) -> float:
    return count / total if total else math.nan
