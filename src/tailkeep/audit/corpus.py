"""One side of an audit: what all of its shards say together.

Rule: shards are put together in the order of their names, whoever has worked on them and when.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tailkeep.audit.config import AuditConfig
from tailkeep.audit.counting import FREQUENT, Counts, merge_counts
from tailkeep.audit.sampling import Sampled, read_sample, smallest
from tailkeep.audit.shard_work import read_counts, read_frequent
from tailkeep.audit.sketches import Frequent
from tailkeep.audit.spectrum import Spectrum
from tailkeep.audit.tables import Rows, added, ranges_of
from tailkeep.data.corpus import Manifest

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
class Corpus:
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
    frequent: dict[int, Frequent]
    sample: list[Sampled]
    spectrum: Spectrum
    duplicates: Duplicates
    near: int | None
    tables: list[Path]

    def number(self, name: str) -> int:
        """The one number called `name`, 0 if there is none."""
        return int(self.counts[name][0]) if name in self.counts else 0


def read_corpus(manifests: Sequence[Manifest], local: Local, config: AuditConfig) -> Corpus:
    """The shards of one side, of which `manifests` tell, together."""
    memory = config.memory * _MEGABYTE // 2
    counts: Counts = {}
    frequent = {length: Frequent(FREQUENT) for length in (1, 2)}
    sample: list[Sampled] = []
    for manifest in manifests:
        counts = merge_counts([counts, read_counts(local(_file("counts", manifest)))])
        for length, sketch in read_frequent(local(_file("frequent", manifest)), FREQUENT).items():
            frequent[length].merge(sketch)
        sample = smallest([*sample, *read_sample(local(_file("sample", manifest)))], config.sample.documents)
    tables = [local(_file("types", manifest)) for manifest in manifests]
    spectrum = Spectrum()
    for parts in ranges_of(tables, memory=memory):
        spectrum.add(added(parts).counts)
    near = _near(manifests, local, memory) if config.near_duplicates else None
    return Corpus(counts, frequent, sample, spectrum, _duplicates(manifests, local, memory), near, tables)


def _duplicates(manifests: Sequence[Manifest], local: Local, memory: int) -> Duplicates:
    names = [manifest.shard.partition("/")[2] for manifest in manifests]
    documents = kinds = groups = 0
    largest: list[tuple[int, int, int]] = []
    for parts in ranges_of([local(_file("copies", manifest)) for manifest in manifests], memory=memory):
        rows = added([_placed(part, number) for number, part in enumerate(parts)], "first")
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


def _placed(rows: Rows, number: int) -> Rows:
    return Rows(rows.hashes, rows.counts, rows.others + number * _ROWS)


def _near(manifests: Sequence[Manifest], local: Local, memory: int) -> int:
    """How many documents share a band with an earlier one."""
    found = np.zeros(0, np.int64)
    for parts in ranges_of([local(_file("near", manifest)) for manifest in manifests], memory=memory):
        rows = added([_placed(part, number) for number, part in enumerate(parts)], "apart")
        found = np.union1d(found, rows.others[1:][rows.hashes[1:] == rows.hashes[:-1]])
    return len(found)


def _file(kind: str, manifest: Manifest) -> str:
    return f"{kind}/{manifest.shard}.parquet"
