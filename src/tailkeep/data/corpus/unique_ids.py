"""A check that document ids are unique, in a corpus of any size.

    ids/<shard>.ids    sorted entries: 16 bytes of the hash of an id, 8 bytes of its row

Rule: memory does not grow with the number of documents. Ids are hashed, sorted in runs on disk, and merged.
"""

import hashlib
import heapq
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO

from tailkeep.errors import InputError

_DIGEST = 16
_ENTRY = _DIGEST + 8
_RUN = 1 << 19
"""Entries in memory at once, some 30 MB."""


class IdList:
    """The ids of one shard, added in any order. `write` sorts them into a file."""

    def __init__(self, *, run: int = _RUN) -> None:
        self._run = run
        self._entries: list[bytes] = []
        self._runs: list[IO[bytes]] = []

    def add(self, name: str, row: int) -> None:
        """Add the id of the document in `row`."""
        digest = hashlib.blake2b(name.encode("utf-8"), digest_size=_DIGEST).digest()
        self._entries.append(digest + row.to_bytes(8, "big"))
        if len(self._entries) >= self._run:
            self._spill()

    def write(self, path: Path, name: str) -> None:
        """Write the sorted ids to `path`. Errors call the shard `name`.

        Raises:
            InputError: two ids are equal.
        """
        with path.open("wb") as file:
            for entry in _distinct((entry, name) for entry in self._merged()):
                file.write(entry)

    def write_all(self, path: Path) -> None:
        """Write the sorted ids to `path`, equal ones too."""
        with path.open("wb") as file:
            for entry in self._merged():
                file.write(entry)

    def close(self) -> None:
        """Delete the runs on disk."""
        for file in self._runs:
            file.close()

    def _merged(self) -> Iterator[bytes]:
        for file in self._runs:
            file.seek(0)
        return heapq.merge(*(_entries(file) for file in self._runs), sorted(self._entries))

    def _spill(self) -> None:
        file = tempfile.TemporaryFile()  # noqa: SIM115  closed by `close`
        file.write(b"".join(sorted(self._entries)))
        self._runs.append(file)
        self._entries.clear()


@dataclass(frozen=True)
class DuplicateId:
    """The document in `row` of the shard `name`, which has the id of an earlier one, `first_row` of `first_name`."""

    name: str
    row: int
    first_name: str
    first_row: int

    def reason(self) -> str:
        """Why the document is rejected."""
        return f"the id of {self.first_name}, document {self.first_row}, from 0. Make the ids unique"


def find_duplicate_ids(lists: Iterable[tuple[str, Path]]) -> Iterator[DuplicateId]:
    """All documents whose id an earlier one has, in the files of sorted ids in `lists`: (shard name, path).

    Earlier is a smaller name, or a smaller row of the same shard.
    """
    runs = (_read_entries(path, name) for name, path in lists)
    for _, group in groupby(heapq.merge(*runs), key=lambda item: item[0][:_DIGEST]):
        (first_name, first_row), *others = sorted(
            (name, int.from_bytes(entry[_DIGEST:], "big")) for entry, name in group
        )
        for name, row in others:
            yield DuplicateId(name, row, first_name, first_row)


def check_unique_ids(lists: Mapping[str, Path]) -> None:
    """Check that no id occurs in two of the files in `lists`, {shard name: path}.

    Raises:
        InputError: one does.
    """
    runs = (_read_entries(path, name) for name, path in sorted(lists.items()))
    for _ in _distinct(heapq.merge(*runs)):
        pass


def _read_entries(path: Path, name: str) -> Iterator[tuple[bytes, str]]:
    with path.open("rb") as file:
        yield from ((entry, name) for entry in _entries(file))


def _entries(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_ENTRY * 1024):
        yield from (block[start : start + _ENTRY] for start in range(0, len(block), _ENTRY))


def _distinct(entries: Iterable[tuple[bytes, str]]) -> Iterator[bytes]:
    previous: tuple[bytes, str] | None = None
    for entry, name in entries:
        if previous is not None and entry[:_DIGEST] == previous[0][:_DIGEST]:
            one, other = sorted(
                (at, int.from_bytes(record[_DIGEST:], "big")) for record, at in (previous, (entry, name))
            )
            raise InputError(
                f"two documents have the same id: {one[0]}, document {one[1]}, and {other[0]}, document {other[1]}, "
                "from 0. Make the ids unique, name another id field, or set it to null to number the documents."
            )
        previous = (entry, name)
        yield entry
