"""One side of an audit: what all of its shards say together.

Rule: shards are put together in the order of their names, whoever has worked on them and when.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.audit.config import AuditConfig
from tailkeep.audit.documents import SampledDocument, read_sample, smallest
from tailkeep.audit.prior_scores import MICRO, SURE, SURPRISE_BINS, SURPRISE_STEP
from tailkeep.audit.shard import read_counts, read_frequent
from tailkeep.data.corpus import Manifest
from tailkeep.data.count_tables import CountRows, merge_rows, read_ranges
from tailkeep.data.counters import (
    BINS_PER_OCTAVE,
    LENGTH_BINS,
    MAX_FREQUENT,
    MAX_N,
    REPETITION_BINS,
    Counts,
    merge_counts,
)
from tailkeep.data.sketches import DISTINCT_ERROR, FrequentItems, count_distinct
from tailkeep.metrics import entropy, gini, top_share, zipf_slope

# How many types occur how often: all that concentration needs to know of any number of types.
#
# Rule: a spectrum has one row for each frequency that occurs, so it fits into memory whatever the corpus.


_SLOPE_LAST = 1000


@dataclass
class Spectrum:
    """`types` maps a frequency to the number of types that have it."""

    types: Counter[int] = field(default_factory=Counter)

    def add(self, counts: NDArray[np.int64]) -> None:
        """Count types with `counts` (V,)."""
        frequencies, numbers = np.unique(counts, return_counts=True)
        self.types.update(dict(zip(frequencies.tolist(), numbers.tolist(), strict=True)))

    def figures(self) -> dict[str, float]:
        """What the words of a whole corpus say of concentration; all but the slope depend on its size."""
        if not self.types:
            return {}
        frequencies = np.array(sorted(self.types, reverse=True), np.float64)
        numbers = np.array([self.types[int(value)] for value in frequencies], np.float64)
        items, types = float(frequencies @ numbers), float(numbers.sum())
        return {
            "types": types,
            "entropy": float(np.log(items) - (numbers * frequencies) @ np.log(frequencies) / items),
            "gini": _gini(frequencies[::-1], numbers[::-1]),
            "top_100_share": _top(frequencies, numbers, 100) / items,
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
        # Of no types there is no point but the first.
        chosen = np.unique(np.linspace(0, len(x) - 1, min(points, len(x))).astype(int)).tolist()
        return [(0.0, 0.0), *((float(x[i] / x[-1]), float(y[i] / y[-1])) for i in chosen)]

    def ranks(self) -> list[tuple[int, int]]:
        """(rank, frequency) at ranks a quarter of an octave apart."""
        found, rank = [], 0
        wanted = _rank_steps(sum(self.types.values()))
        for frequency in sorted(self.types, reverse=True):
            rank += self.types[frequency]
            while wanted and wanted[0] <= rank:
                found.append((wanted.pop(0), frequency))
        return found


_RARE = 3
"""A word that occurs up to so often counts as tail."""


def _rank_steps(last: int) -> list[int]:
    found = {int(2 ** (step / 4)) for step in range(4 * max(last, 1).bit_length() + 1)}
    return [rank for rank in sorted(found) if rank <= last]


def _gini(frequencies: NDArray[np.float64], numbers: NDArray[np.float64]) -> float:
    """Twice the area between the Lorenz curve and the diagonal, from ascending frequencies."""
    types, items = numbers.sum(), frequencies @ numbers
    y = np.concatenate([[0.0], np.cumsum(frequencies * numbers) / items])
    return float(1 - (numbers / types) @ (y[1:] + y[:-1]))


def _top(frequencies: NDArray[np.float64], numbers: NDArray[np.float64], types: int) -> float:
    before = np.concatenate([[0.0], np.cumsum(numbers)[:-1]])
    return float(frequencies @ np.clip(types - before, 0, numbers))


def _head(frequencies: NDArray[np.float64], numbers: NDArray[np.float64], ranks: int) -> NDArray[np.float64]:
    """The frequencies of the first `ranks` types."""
    rows = int(np.searchsorted(np.cumsum(numbers), ranks)) + 1
    return np.repeat(frequencies[:rows], numbers[:rows].astype(np.int64))[:ranks]


def quantiles_of(histogram: Iterable[int], edges: NDArray[np.float64], shares: Iterable[float]) -> list[float]:
    """The values below which `shares` of a histogram's items lie, straight between the edges (bins + 1,) of a bin."""
    counts = np.array(list(histogram), np.float64)
    total = counts.sum()
    if not total:
        return [float("nan") for _ in shares]
    sums = np.concatenate([[0.0], np.cumsum(counts)]) / total
    rising = np.concatenate([[True], np.diff(sums) > 0])
    return [float(np.interp(share, sums[rising], edges[rising])) for share in shares]


Local = Callable[[str], Path]
"""Gives the file of a name below the output as one on this machine."""

_MEGABYTE = 1 << 20
_SHOWN = 10


@dataclass(frozen=True)
class Duplicates:
    """Documents that are there more than once.

    Attributes:
        documents: how many were looked at.
        copies: how many are left out if one of each kind stays.
        groups: how many kinds are there more than once.
        largest: (count, file and row of the first) of the largest groups.
    """

    documents: int = 0
    copies: int = 0
    groups: int = 0
    largest: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class CorpusStats:
    """The figures of one side.

    Attributes:
        counts: see `Counting.counts`; `documents`, `bytes` and `words` are among them.
        frequent: the most frequent words (1) and pairs of words (2).
        sample: the sample of documents, see `Sampling`.
        spectrum: of all words.
        duplicates: exact ones.
        near: how many documents are near an earlier one, None if it was not asked for.
        tables: the files of the types, one for each shard.
    """

    counts: Counts
    frequent: dict[int, FrequentItems]
    sample: list[SampledDocument]
    spectrum: Spectrum
    duplicates: Duplicates
    near: int | None
    tables: list[Path]

    def number(self, name: str) -> int:
        """The one number called `name`, 0 if there is none."""
        return int(self.counts[name][0]) if name in self.counts else 0


def read_corpus(manifests: Sequence[Manifest], local: Local, config: AuditConfig) -> CorpusStats:
    """The shards of one side, of which `manifests` tell, together."""
    memory = config.memory_mb * _MEGABYTE // 2
    counts: Counts = {}
    frequent = {length: FrequentItems(MAX_FREQUENT) for length in (1, 2)}
    sample: list[SampledDocument] = []
    for manifest in manifests:
        counts = merge_counts([counts, read_counts(local(_file("counts", manifest)))])
        for length, sketch in read_frequent(local(_file("frequent", manifest)), MAX_FREQUENT).items():
            frequent[length].merge(sketch)
        sample = smallest([*sample, *read_sample(local(_file("sample", manifest)))], config.sample.documents)
    tables = [local(_file("types", manifest)) for manifest in manifests]
    spectrum = Spectrum()
    for parts in read_ranges(tables, memory=memory):
        spectrum.add(merge_rows(parts).counts)
    near = _near(manifests, local, memory) if config.near_duplicates else None
    return CorpusStats(counts, frequent, sample, spectrum, _duplicates(manifests, local, memory), near, tables)


def _duplicates(manifests: Sequence[Manifest], local: Local, memory: int) -> Duplicates:
    names = [manifest.shard.partition("/")[2] for manifest in manifests]
    documents = kinds = groups = 0
    largest: list[tuple[int, int, int]] = []
    for parts in read_ranges([local(_file("duplicates", manifest)) for manifest in manifests], memory=memory):
        rows = merge_rows([_placed(part, number) for number, part in enumerate(parts)], "first")
        documents += int(rows.counts.sum())
        kinds += len(rows)
        more = np.flatnonzero(rows.counts > 1)
        groups += len(more)
        chosen = more[np.argsort(-rows.counts[more], kind="stable")[:_SHOWN]]
        places = (divmod(place, _ROWS) for place in rows.others[chosen].tolist())
        largest += [
            (count, number, row) for count, (number, row) in zip(rows.counts[chosen].tolist(), places, strict=True)
        ]
    largest.sort(key=lambda item: (-item[0], item[1], item[2]))
    shown = [(count, f"{names[number]}:{row}") for count, number, row in largest[:_SHOWN]]
    return Duplicates(documents, documents - kinds, groups, shown)


_ROWS = 1 << 40
"""More rows than a shard has: a place is a number of a shard times this, and a row."""


def _placed(rows: CountRows, number: int) -> CountRows:
    return CountRows(rows.hashes, rows.counts, rows.others + number * _ROWS)


def _near(manifests: Sequence[Manifest], local: Local, memory: int) -> int:
    """How many documents share a band with an earlier one."""
    found = np.zeros(0, np.int64)
    for parts in read_ranges([local(_file("near_duplicates", manifest)) for manifest in manifests], memory=memory):
        rows = merge_rows([_placed(part, number) for number, part in enumerate(parts)], "separate")
        found = np.union1d(found, rows.others[1:][rows.hashes[1:] == rows.hashes[:-1]])
    return len(found)


def _file(kind: str, manifest: Manifest) -> str:
    return f"{kind}/{manifest.shard}.parquet"


# The figures of one corpus, as plain numbers by name.
#
# Rule: a figure that grows or shrinks with the size of the corpus is no yardstick for another corpus; the comparison's
# tests are, since they look at equally much text.


Tree = dict[str, Any]

_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
_NAMES = ("p5", "p25", "median", "p75", "p95")
_TOP = 100
LENGTH_EDGES = 2 ** (np.arange(LENGTH_BINS + 1) / BINS_PER_OCTAVE) - 1
REPETITION_EDGES = np.linspace(0, 1, REPETITION_BINS + 1)
SURPRISE_EDGES: NDArray[np.float64] = np.arange(SURPRISE_BINS + 1, dtype=np.float64) * SURPRISE_STEP


def figures_of(corpus: CorpusStats, rejected: int) -> Tree:
    """All figures of `corpus`, of which `rejected` documents could not be read."""
    documents = corpus.number("documents")
    found: Tree = {
        "documents": documents,
        "rejected": rejected,
        "bytes": corpus.number("bytes"),
        "words": corpus.number("words"),
        "words_per_document": _quantiles(corpus.counts["lengths"], LENGTH_EDGES),
        "exact_copies": corpus.duplicates.copies,
        "exact_copies_share": _ratio(corpus.duplicates.copies, documents),
        "repeated_4grams_share": 1 - _ratio(corpus.number("different_runs"), corpus.number("runs")),
        "repetition_per_document": _quantiles(corpus.counts["repetition"], REPETITION_EDGES),
        "spectrum": corpus.spectrum.figures(),
        "buckets": {str(length): _concentration(corpus.counts[f"buckets/{length}"]) for length in (1, 2)},
        "distinct": _distinct(corpus),
        "distinct_error": DISTINCT_ERROR,
        "frequent_error": {str(length): sketch.error for length, sketch in corpus.frequent.items()},
    }
    if corpus.near is not None:
        found["near_copies"] = corpus.near
        found["near_copies_share"] = _ratio(corpus.near, documents)
    if "compressed/before" in corpus.counts:
        # A corpus below one block has no ratio.
        found["compression"] = _ratio(corpus.number("compressed/before"), corpus.number("compressed/after"))
    if "prior/tokens" in corpus.counts:
        found["prior"] = prior_figures(corpus)
    plain: Tree = without_nan(found)
    return plain


def prior_figures(corpus: CorpusStats) -> Tree:
    """What the prior says of all documents, whole."""
    tokens = corpus.number("prior/tokens")
    surprise = _ratio(corpus.number("prior/micronats"), MICRO * tokens)
    low, _, middle, _, high = quantiles_of(corpus.counts["prior/surprise"], SURPRISE_EDGES, _SHARES)
    return {
        "tokens": tokens,
        "surprise": surprise,
        "perplexity": math.exp(surprise) if tokens else math.nan,
        "document_perplexity": {
            name: math.exp(value) for name, value in zip(("p5", "median", "p95"), (low, middle, high), strict=True)
        },
        "over": {str(sure): _ratio(corpus.number(f"prior/over_{sure}"), tokens) for sure in SURE},
        "toedit_would_flag": _ratio(corpus.number("prior/over_0.99"), tokens),
        "tce_would_truncate": {str(sure): _ratio(corpus.number(f"prior/over_{sure}"), tokens) for sure in SURE},
    }


def without_nan(tree: Any) -> Any:
    """`tree` with None for numbers that are none, as JSON wants it."""
    if isinstance(tree, Mapping):
        return {key: without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [without_nan(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _distinct(corpus: CorpusStats) -> Tree:
    """The share of different n-grams among all, by n."""
    words, types = corpus.number("words"), corpus.spectrum.figures().get("types", math.nan)
    found = {"1": _ratio(types, words)}
    lengths = corpus.number("bigrams"), corpus.number("trigrams"), corpus.number("runs")
    for length, total in zip(range(2, MAX_N + 1), lengths, strict=True):
        found[str(length)] = min(_ratio(count_distinct(corpus.counts[f"most/distinct/{length}"]), total), 1.0)
    return found


def _concentration(counts: NDArray[np.int64]) -> Tree:
    values = counts.astype(np.float64)
    return {
        "entropy": float(entropy(values)),
        "gini": float(gini(values)),
        f"top_{_TOP}_share": float(top_share(values, _TOP)),
        "empty": int((counts == 0).sum()),
    }


def _quantiles(histogram: NDArray[np.int64], edges: NDArray[np.float64]) -> Tree:
    return dict(zip(_NAMES, quantiles_of(histogram.tolist(), edges, _SHARES), strict=True))


def _ratio(count: float, total: float) -> float:
    return count / total if total else math.nan
