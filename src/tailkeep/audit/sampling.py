"""A sample of documents that is the same however a corpus is cut into shards and by whomever it is read.

Rule: a document's place alone (file and row) decides whether it is in: its hash is among the smallest.
"""

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tailkeep.audit.documents import Document

TEXT_BYTES = 1 << 14
"""How much of a document's beginning is kept: 2,000 words of most scripts."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A document of the sample; `text` is its beginning, `bytes` the length of all of it, `place` its file and row."""

    priority: int
    place: str
    id: str
    bytes: int
    text: str


class Sampling:
    """Keeps `size` documents of the file `name`."""

    def __init__(self, size: int, name: str, seed: int) -> None:
        self._size, self._name = size, name
        self._key = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
        self._heap: list[tuple[int, int, Sampled]] = []

    def add(self, document: Document) -> None:
        """Take `document` if its turn has come."""
        digest = hashlib.blake2b(document.row.to_bytes(8, "little"), key=self._key, digest_size=8).digest()
        priority = int.from_bytes(digest, "little")
        if len(self._heap) == self._size and -self._heap[0][0] <= priority:
            return
        text = document.raw[:TEXT_BYTES].decode("utf-8", "ignore")
        place = f"{self._name}:{document.row}"
        item = (-priority, document.row, Sampled(priority, place, document.id, len(document.raw), text))
        (heapq.heappush if len(self._heap) < self._size else heapq.heapreplace)(self._heap, item)

    def sample(self) -> list[Sampled]:
        """The sample, the smallest hash first."""
        return smallest((item for _, _, item in self._heap), self._size)


def smallest(sampled: Iterable[Sampled], size: int) -> list[Sampled]:
    """The `size` documents with the smallest hashes."""
    return heapq.nsmallest(size, sampled, key=lambda item: (item.priority, item.place))


def write_sample(sampled: list[Sampled], path: Path) -> None:
    """`sampled` as a parquet file."""
    columns = {name: [getattr(item, name) for item in sampled] for name, _ in _FIELDS}
    pq.write_table(pa.table(columns, schema=pa.schema(_FIELDS)), path, compression="zstd")


def read_sample(path: Path) -> list[Sampled]:
    """What `write_sample` has written."""
    return [Sampled(**row) for row in pq.read_table(path).to_pylist()]


_FIELDS = [
    ("priority", pa.uint64()),
    ("place", pa.string()),
    ("id", pa.string()),
    ("bytes", pa.int64()),
    ("text", pa.string()),
]
