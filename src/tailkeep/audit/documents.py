"""The documents of a shard as an audit sees them, and batches of their pieces.

Rule: how documents are cut and put together depends on them alone, so that no worker can change a count.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tailkeep.data.corpus import Layout, OnError, Rejected, Shard, read_shard, reject_line
from tailkeep.errors import InputError

PIECE = 1 << 20
"""The most bytes that are counted together: a longer document is cut, at white space if there is any."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its number among those of the shard that can be read, its row in the file, its id and its text."""

    number: int
    row: int
    id: str
    text: str
    raw: bytes

    @property
    def hash(self) -> int:
        """64 bits of a cryptographic hash: equal texts share it, and different ones with a probability of 2^-64."""
        return int.from_bytes(hashlib.blake2b(self.raw, digest_size=8).digest(), "little")


class Reader:
    """Reads the documents of `shard`; `read` and `rejected` count them."""

    def __init__(self, shard: Shard, layout: Layout, folder: Path, on_error: OnError) -> None:
        self._shard, self._layout, self._folder, self._on_error = shard, layout, folder, on_error
        self.read = self.rejected = 0

    def documents(self, shard: Shard) -> Iterator[Document]:
        """The documents of `shard`, which is the reader's own as it lies in its input.

        Raises:
            InputError: one cannot be read and `on_error` is "stop", or the file cannot be read at all.
        """
        for item in read_shard(shard, self._layout):
            self.read += 1
            if isinstance(item, Rejected):
                self._reject(item)
                continue
            text = "\n".join(item.texts.values())
            yield Document(self.read - self.rejected - 1, item.row, item.id, text, text.encode("utf-8"))

    def _reject(self, rejected: Rejected) -> None:
        if self._on_error == "stop":
            raise InputError(f"{rejected.where}: {rejected.reason}.")
        self.rejected += 1
        path = self._folder / "rejects" / f"{self._shard.key}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(reject_line(rejected))


@dataclass(frozen=True, slots=True)
class Batch:
    """Pieces of consecutive documents, each with the number of its document."""

    pieces: list[bytes]
    owners: list[int]


def batches_of(documents: Iterable[Document]) -> Iterator[Batch]:
    """All of `documents` in batches of about `PIECE` bytes."""
    batch, size = Batch([], []), 0
    for document in documents:
        for piece in pieces_of(document.raw):
            batch.pieces.append(piece)
            batch.owners.append(document.number)
            size += len(piece)
            if size >= PIECE:
                yield batch
                batch, size = Batch([], []), 0
    if batch.pieces:
        yield batch


def pieces_of(raw: bytes) -> Iterator[bytes]:
    """`raw` in pieces of at most `PIECE` bytes, none of which ends within a character of UTF-8."""
    start = 0
    while len(raw) - start > PIECE:
        stop = start + PIECE
        gap = max(raw.rfind(mark, start + 1, stop) for mark in (b" ", b"\n"))
        if gap > 0:
            stop = gap
        while raw[stop] & 0xC0 == 0x80:
            stop -= 1
        yield raw[start:stop]
        start = stop
    yield raw[start:]
