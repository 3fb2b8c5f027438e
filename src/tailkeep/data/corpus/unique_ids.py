"""A check that document ids are unique, in a corpus of any size.

    ids/<shard>.ids    sorted entries: 16 bytes of the hash of an id, 8 bytes of its row

Rule: memory does not grow with the number of documents. Ids are hashed, sorted in runs on disk, and merged.
"""

import hashlib
import heapq
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import IO

from tailkeep.errors import InputError

_DIGEST, _ROW = 16, 8
_ENTRY = _DIGEST + _ROW
_NUMBERED = _ENTRY + 4
_FILES = 64
"""Files that are read at once."""
_RUN = 1 << 19
"""Entries in memory at once, some 30 MB."""


class IdList:
    """The ids of one shard, added in any order. `write` sorts them into a file."""

    def __init__(self, *, run: int = _RUN) -> None:
        self._run = run
        self._entries: list[bytes] = []
        self._runs: list[IO[bytes]] = []

    def __bool__(self) -> bool:
        return bool(self._entries or self._runs)

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
            file.writelines(_distinct(self._merged(), name))

    def write_all(self, path: Path) -> None:
        """Write the sorted ids to `path`, equal ones too."""
        with path.open("wb") as file:
            file.writelines(self._merged())

    def close(self) -> None:
        """Delete the runs on disk."""
        for file in self._runs:
            file.close()

    def _merged(self) -> Iterator[bytes]:
        for file in self._runs:
            file.seek(0)
        return heapq.merge(*(_records(file, _ENTRY) for file in self._runs), sorted(self._entries))

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
    for _, group in groupby(_merge(lists), key=lambda item: item[0]):
        (_, first_name, first_row), *others = group
        for _, name, row in others:
            yield DuplicateId(name, row, first_name, first_row)


def _merge(lists: Iterable[tuple[str, Path]]) -> Iterator[tuple[bytes, str, int]]:
    """The digest, the name and the row of all entries, in this order. A corpus can have more files than may be open."""
    named = sorted(lists)
    runs = [partial(_numbered, path, number) for number, (_, path) in enumerate(named)]
    with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
        while len(runs) > _FILES:
            merged = []
            for start in range(0, len(runs), _FILES):
                path = Path(folder, f"{len(runs)}-{start}")
                with path.open("wb") as file:
                    file.writelines(heapq.merge(*(run() for run in runs[start : start + _FILES])))
                merged.append(partial(_read_records, path, _NUMBERED))
            runs = merged
        for entry in heapq.merge(*(run() for run in runs)):
            number = int.from_bytes(entry[_DIGEST:-_ROW], "big")
            yield entry[:_DIGEST], named[number][0], int.from_bytes(entry[-_ROW:], "big")


def _numbered(path: Path, number: int) -> Iterator[bytes]:
    """The entries of the file at `path`, with the number of the file between digest and row."""
    inner = number.to_bytes(_NUMBERED - _ENTRY, "big")
    return (entry[:_DIGEST] + inner + entry[_DIGEST:] for entry in _read_records(path, _ENTRY))


def check_unique_ids(lists: Mapping[str, Path]) -> None:
    """Check that no id occurs in two of the files in `lists`, {shard name: path}.

    Raises:
        InputError: one does.
    """
    for item in find_duplicate_ids(lists.items()):
        raise _same_id(item.first_name, item.first_row, item.name, item.row)


def _read_records(path: Path, length: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from _records(file, length)


def _records(file: IO[bytes], length: int) -> Iterator[bytes]:
    while block := file.read(length * 1024):
        yield from (block[start : start + length] for start in range(0, len(block), length))


def _distinct(entries: Iterable[bytes], name: str) -> Iterator[bytes]:
    previous = b""
    for entry in entries:
        if entry[:_DIGEST] == previous[:_DIGEST]:
            rows = [int.from_bytes(record[_DIGEST:], "big") for record in (previous, entry)]
            raise _same_id(name, rows[0], name, rows[1])
        previous = entry
        yield entry


def _same_id(first_name: str, first_row: int, name: str, row: int) -> InputError:
    return InputError(
        f"two documents have the same id: {first_name}, document {first_row}, and {name}, document {row}, "
        "from 0. Make the ids unique, name another id field, or set it to null to number the documents."
    )
