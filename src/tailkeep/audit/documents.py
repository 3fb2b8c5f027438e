"""A sample of the documents of a shard.

Rule: whether a document is sampled depends on its file and row alone: its hash is among the smallest. So the sample
is the same however a corpus is split into shards and whichever worker reads it.
"""

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tailkeep.data.counters import ShardDocument

TEXT_BYTES = 1 << 14
"""A sampled text is truncated to so many bytes, about 2,000 words in most scripts."""

SHORT_TEXT_BYTES = 1 << 12
"""The same in the larger sample for the share of synthetic documents, about 600 words."""


@dataclass(frozen=True, slots=True)
class SampledDocument:
    """A sampled document: its file and row, its full length, the beginning of its text, and its source, if known."""

    priority: int
    location: str
    id: str
    bytes: int
    text: str
    source: str = ""


class HashSample:
    """A sample of `size` documents of the file `name`, those with the smallest hashes, cut to `text_bytes` bytes."""

    def __init__(self, size: int, name: str, seed: int, *, text_bytes: int = TEXT_BYTES) -> None:
        self._size, self._name, self._text_bytes = size, name, text_bytes
        self._key = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
        self._heap: list[tuple[int, int, SampledDocument]] = []

    def add(self, document: ShardDocument) -> None:
        """Add `document` if its hash is among the smallest so far."""
        digest = hashlib.blake2b(document.row.to_bytes(8, "little"), key=self._key, digest_size=8).digest()
        priority = int.from_bytes(digest, "little")
        if len(self._heap) == self._size and -self._heap[0][0] <= priority:
            return
        text = document.raw[: self._text_bytes].decode("utf-8", "ignore")
        location = f"{self._name}:{document.row}"
        sampled = SampledDocument(priority, location, document.id, len(document.raw), text, document.source)
        item = (-priority, document.row, sampled)
        (heapq.heappush if len(self._heap) < self._size else heapq.heapreplace)(self._heap, item)

    def documents(self) -> list[SampledDocument]:
        """The sample, the smallest hash first."""
        return smallest((item for _, _, item in self._heap), self._size)


def smallest(sampled: Iterable[SampledDocument], size: int) -> list[SampledDocument]:
    """The `size` documents with the smallest hashes."""
    return heapq.nsmallest(size, sampled, key=lambda item: (item.priority, item.location))


def write_sample(sampled: list[SampledDocument], path: Path) -> None:
    """Write `sampled` as a parquet file."""
    columns = {name: [getattr(item, name) for item in sampled] for name, _ in _FIELDS}
    pq.write_table(pa.table(columns, schema=pa.schema(_FIELDS)), path, compression="zstd")


def read_sample(path: Path) -> list[SampledDocument]:
    """Read the documents that `write_sample` wrote."""
    return [SampledDocument(**row) for row in pq.read_table(path).to_pylist()]


_FIELDS = [
    ("priority", pa.uint64()),
    ("location", pa.string()),
    ("id", pa.string()),
    ("bytes", pa.int64()),
    ("text", pa.string()),
    ("source", pa.string()),
]
