"""Counts of words and n-grams: of one shard on disk, of several texts in memory, and of pairs of corpora.

    items/<n>-<group>/<key>.parquet   the n-grams of words of a group of documents: hash, count, document frequency
    rejects/<key>.jsonl               unreadable documents

Rules: the files are a pure function of the shard, or of the bundle of small files under the key of the first one, and
of the configuration. Real text has one group, synthetic text `GROUPS`, so that a jackknife can leave one out: documents
take them in turn by their row, from one that the name of their file decides, however a file is cut. Pairs are joined by
ascending hash in ranges, and what is remembered of them does not grow with the corpus.
"""

import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailkeep.data.corpus import MEGABYTE, Shard, side_of
from tailkeep.data.count_tables import CountRows, CountTable, merge_rows, read_ranges
from tailkeep.data.counters import CHUNK_BYTES, ShardDocument, split_document
from tailkeep.data.documents import DocumentReader
from tailkeep.data.hashing import Hashes, group_equal_grams, ngrams_of, split_words
from tailkeep.forecast.config import ForecastConfig
from tailkeep.metrics import FIT_LIMIT, CountMoments
from tailkeep.workers import keep_freed_memory, limited_threads

GROUPS = 10
"""The groups of documents of a jackknife."""
MAX_SAMPLED = 2000
"""The most items per band that a projection simulates: those with the smallest hashes, a uniform sample."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, order=True)
class CountBand:
    """Items that occur `first` to `last` times in the real text."""

    first: int
    last: int

    @property
    def label(self) -> str:
        """Such as `1` or `2-3`."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def mask(self, counts: Floats) -> NDArray[np.bool_]:
        """Which `counts` (V,) lie in the band."""
        return (counts >= self.first) & (counts <= self.last)

    def part_of(self, spectrum: Mapping[int, int]) -> dict[int, int]:
        """The counts of `spectrum` (count -> number of items) that lie in the band."""
        return {count: number for count, number in spectrum.items() if self.first <= count <= self.last}


BANDS = (CountBand(1, 1), CountBand(2, 3), CountBand(4, 10), CountBand(11, 100))


class GroupedCounter:
    """Counts the n-grams of documents in `groups` groups; tables take `memory` bytes and spill below `folder`."""

    def __init__(self, max_n: int, groups: int, memory: int, folder: Path) -> None:
        self._max_n, self._groups = max_n, groups
        tables = [(length, group) for length in range(1, max_n + 1) for group in range(groups)]
        self.tables = {name: CountTable(memory // len(tables), _make(folder, name)) for name in tables}
        self._buffers: list[list[bytes]] = [[] for _ in range(groups)]
        self._sizes = [0] * groups
        self.totals: Counter[str] = Counter()

    def add(self, document: ShardDocument) -> None:
        """Count `document` in the group of its row, from a first one that the name of its file decides."""
        group = (zlib.crc32(document.file.encode("utf-8")) + document.row) % self._groups
        for chunk in split_document(document.raw):
            self._buffers[group].append(chunk)
            self._sizes[group] += len(chunk)
            if self._sizes[group] >= CHUNK_BYTES:
                self._count(group)

    def finish(self) -> Mapping[str, int]:
        """Count what is buffered. Return the number of n-grams by `items/<n>/<group>`; call it once, at the end."""
        for group in range(self._groups):
            if self._sizes[group]:
                self._count(group)
        return self.totals

    def _count(self, group: int) -> None:
        words = split_words(self._buffers[group])
        for length, grams in enumerate(ngrams_of(words, self._max_n), 1):
            equal = group_equal_grams(grams)
            self.totals[f"items/{length}/{group}"] += len(grams.hashes)
            # Document frequencies are not read here; their column holds the counts again.
            self.tables[length, group].add(equal.hashes, equal.counts, equal.counts)
        self._buffers[group], self._sizes[group] = [], 0


def _make(folder: Path, name: tuple[int, int]) -> Path:
    path = folder / f"{name[0]}-{name[1]}"
    path.mkdir()
    return path


@dataclass
class RoundPairs:
    """Items of the real text beside their counts in one synthetic text, added up range by range.

    Attributes:
        exposure: n-grams of the synthetic text over those of the real one.
        earlier_exposures: the same of the texts before it.
        types: the number of items by real count.
        new_types: the number of items that the real text lacks.
        is_copy: whether each item so far has the same share of both texts, which no sampling leaves of a text.
    """

    exposure: float
    earlier_exposures: tuple[float, ...] = ()
    types: Counter[int] = field(default_factory=Counter)
    new_types: int = 0
    is_copy: bool = True
    _new_occurrences: float = 0.0
    _cells: list[tuple[Floats, ...]] = field(default_factory=list)
    _spectra: dict[CountBand, Counter[float]] = field(default_factory=lambda: {band: Counter() for band in BANDS})
    _group_totals: Floats = field(default_factory=lambda: np.zeros(1))
    _spreads: dict[CountBand, list[Floats]] = field(default_factory=lambda: {band: [] for band in BANDS})
    _sampled: dict[CountBand, list[tuple[Floats, ...]]] = field(default_factory=lambda: {band: [] for band in BANDS})

    def add(self, real: Floats, trained: Floats, groups: Floats, earlier: Sequence[Floats] = ()) -> None:
        """Add items (V,) with their `real` and `trained` counts and their counts in each group (V, K) of the text.

        `earlier` are their counts in the texts before this one. Items come in the order of their hashes.
        """
        totals = groups.sum(axis=1)
        self._group_totals = self._group_totals + groups.sum(axis=0)
        self.is_copy = self.is_copy and bool(np.allclose(totals, self.exposure * real, rtol=1e-9, atol=0))
        self.new_types += int((totals[real == 0] > 0).sum())
        self._new_occurrences += float(totals[real == 0].sum())
        values, numbers = np.unique(real[real > 0].astype(np.int64), return_counts=True)
        self.types.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
        for band in BANDS:
            inside = band.mask(real)
            counts, items = np.unique(totals[inside], return_counts=True)
            self._spectra[band].update(dict(zip(counts.tolist(), items.tolist(), strict=True)))
            room = MAX_SAMPLED - sum(len(columns[0]) for columns in self._sampled[band])
            columns = tuple(column[inside][:room] for column in (real, trained, *earlier, totals))
            self._sampled[band].append(columns)
            self._spreads[band].append(_spread_sums(groups[inside], totals[inside]))
        low = (real > 0) & (trained > 0) & (trained <= FIT_LIMIT)
        self._cells.append(_moments(trained[low], groups[low], totals[low]))

    @property
    def new_share(self) -> float:
        """The share of the synthetic text's occurrences whose items the real text lacks."""
        return self._new_occurrences / max(float(self._group_totals.sum()), 1.0)

    def moments(self) -> CountMoments:
        """What a fit reads."""
        cells = [np.concatenate(column) for column in zip(*self._cells, strict=True)]
        keys, index = np.unique(cells[0], return_inverse=True)
        summed = [np.zeros((len(keys), *column.shape[1:])) for column in cells[1:]]
        for target, column in zip(summed, cells[1:], strict=True):
            np.add.at(target, index, column)
        types, sums, squares = summed
        return CountMoments(keys, types, sums, squares, self.exposure, self._shares)

    def dispersion(self) -> float:
        """Variance over mean of a written count, from how unevenly the groups share an item; at least 1.

        c' independent occurrences, of which group k has the share s_k on average, leave a sum over k of
        (x_k - c' s_k)² of c' (1 - sum of s_k²).
        """
        within = sum(self._item_spread(band) for band in BANDS)
        occurrences = sum(float(self._spread(band)[2].sum()) for band in BANDS)
        expected = occurrences * (1 - float((self._shares**2).sum()))
        return max(1.0, float(within / expected)) if expected else 1.0

    def design_effect(self, band: CountBand) -> float:
        """How many items of `band` are worth one independent item; at least 1.

        Words of one name, or pairs of one sentence, live and die together. It is the spread over groups of documents of
        the items' summed counts, over the sum of the items' own spreads.
        """
        sums = self._spread(band)[2]
        within = self._item_spread(band)
        together = float(((sums - sums.sum() * self._shares) ** 2).sum())
        return max(1.0, together / within) if within > 0 else 1.0

    @property
    def _shares(self) -> Floats:
        return np.asarray(self._group_totals / max(float(self._group_totals.sum()), 1.0))

    def _spread(self, band: CountBand) -> Floats:
        return np.asarray(np.sum([np.zeros((3, len(self._group_totals))), *self._spreads[band]], axis=0))

    def _item_spread(self, band: CountBand) -> float:
        """The sum over items and groups of (x_k - c' s_k)²."""
        squares, products = self._spread(band)[:2]
        # The totals' squares stand in the products: the sum over groups of x_k c' is c'².
        return float((squares - 2 * self._shares * products + self._shares**2 * products.sum()).sum())

    def sample(self, band: CountBand) -> list[Floats]:
        """Real, trained, earlier and written counts (see `add`) of at most `MAX_SAMPLED` items of `band`."""
        return [np.concatenate(column) for column in zip(*self._sampled[band], strict=True)]

    def band_types(self, band: CountBand) -> int:
        """The number of items of `band`."""
        return sum(band.part_of(self.types).values())

    def independent_types(self, band: CountBand) -> int:
        """How many independent items `band` is worth; at least 1."""
        return max(1, round(self.band_types(band) / self.design_effect(band)))

    def alive(self, band: CountBand) -> float:
        """The expected number of items of `band` alive in as much text as the real one has."""
        # One sum at the end: it does not depend on how many ranges the items came in.
        counts, items = np.array(sorted(self._spectra[band].items()), np.float64).reshape(-1, 2).T
        return float(alive_after_thinning(counts, self.exposure) @ items)


def alive_after_thinning(totals: Floats, exposure: float) -> Floats:
    """The probability that an item with count c' in a longer text is in a random part of the real text's size."""
    if exposure <= 1:
        return (totals > 0).astype(np.float64)
    return np.asarray(-np.expm1(totals * np.log1p(-1 / exposure)))


def _moments(trained: Floats, groups: Floats, totals: Floats) -> tuple[Floats, ...]:
    keys, index = np.unique(trained, return_inverse=True)
    sums = np.zeros((len(keys), groups.shape[1]))
    np.add.at(sums, index, groups)
    size = len(keys)
    return (
        keys,
        np.bincount(index, minlength=size).astype(np.float64),
        sums,
        np.bincount(index, totals**2, size).astype(np.float64),
    )


def _spread_sums(groups: Floats, totals: Floats) -> Floats:
    """Over items (V,), by group: sums of x_k², of x_k c', and of x_k; (3, K)."""
    return np.stack([(groups**2).sum(axis=0), totals @ groups, groups.sum(axis=0)])


def join_tables(
    real: Sequence[Path], synthetic: Sequence[Sequence[Path]], *, memory: int
) -> Iterator[tuple[Floats, Floats]]:
    """Ranges of (real counts (V,), counts in each group of the synthetic text (V, K)), over all items of both.

    Args:
        real: tables of the real text.
        synthetic: for each group, its tables.
        memory: bytes of memory to use.
    """
    sizes = [len(real), *(len(paths) for paths in synthetic)]
    ends = np.cumsum(sizes)
    paths = [*real, *(path for group in synthetic for path in group)]
    for parts in read_ranges(paths, memory=memory):
        rows = [merge_rows(parts[end - size : end]) for size, end in zip(sizes, ends.tolist(), strict=True)]
        items = np.unique(np.concatenate([row.hashes for row in rows]))
        columns = np.stack([_align(row, items) for row in rows], axis=1)
        yield columns[:, 0], columns[:, 1:]


def _align(rows: CountRows, items: Hashes) -> Floats:
    counts = np.zeros(len(items))
    counts[np.searchsorted(items, rows.hashes)] = rows.counts
    return counts


@dataclass(frozen=True, eq=False)
class TextCounts:
    """The n-grams of texts in memory: ascending hashes (V,), and their counts in each group of documents (V, K)."""

    hashes: Hashes
    groups: Floats

    def align(self, items: Hashes) -> Floats:
        """(len(items), K): the counts of `items`, ascending hashes, 0 where a text lacks one."""
        counts = np.zeros((len(items), self.groups.shape[1]))
        if len(self.hashes):
            index = np.minimum(np.searchsorted(self.hashes, items), len(self.hashes) - 1)
            shared = self.hashes[index] == items
            counts[shared] = self.groups[index[shared]]
        return counts


def count_texts(texts: Sequence[str], length: int, *, limit: int | None = None) -> TextCounts:
    """The n-grams of `length` words in the first `limit` words of `texts`; text i is in group i % `GROUPS`."""
    words = split_words([text.encode("utf-8", "replace") for text in texts])
    grams = ngrams_of(words, length)[-1]
    inside = np.arange(len(grams.hashes)) if limit is None else np.flatnonzero(grams.firsts + length <= limit)
    hashes, index = np.unique(grams.hashes[inside], return_inverse=True)
    counts = np.zeros((len(hashes), GROUPS))
    np.add.at(counts, (index, grams.documents[inside] % GROUPS), 1.0)
    return TextCounts(hashes, counts)


def count_words(texts: Iterable[str]) -> int:
    """The number of words of `texts`."""
    return len(split_words([text.encode("utf-8", "replace") for text in texts]).hashes)


CORPUS = "corpus"
"""The side of the real text; every other side is a synthetic one."""


def num_groups(side: str) -> int:
    """The groups of documents on this side."""
    return 1 if side == CORPUS else GROUPS


class BundleCounts:
    """A `BundleFunction`. The names of shards begin with the side of them all."""

    def __init__(self, config: ForecastConfig) -> None:
        self._config = config

    def __call__(self, shards: Sequence[Shard], folder: Path) -> list[Mapping[str, int]]:
        """Count `shards` into files below `folder`. Return their documents and rejects; n-grams are the first one's."""
        config = self._config
        keep_freed_memory()
        with limited_threads(config.num_threads), tempfile.TemporaryDirectory(prefix="tailkeep-") as temporary:
            side = side_of(shards[0].name)
            memory = config.memory_mb * MEGABYTE // 2
            counter = GroupedCounter(config.max_n, num_groups(side), memory, Path(temporary))
            reader = DocumentReader(shards, config.layout, folder, config.on_error)
            for document in reader.documents():
                counter.add(document)
            totals = counter.finish()
            for (length, group), table in counter.tables.items():
                path = folder / "items" / f"{length}-{group}" / f"{shards[0].key}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                table.write(path)
        words = sum(number for name, number in totals.items() if name.startswith("items/1/"))
        counts = [{**count, "words": 0} for count in reader.counts()]
        return [{**counts[0], "words": words, **totals}, *counts[1:]]
