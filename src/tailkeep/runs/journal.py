"""A journal of slow results inside one piece of work, so that work which was interrupted goes on where it stopped.

    with keep_journal(path):
        if (result := read_journal(key)) is None:
            write_journal(key, result := compute())

Rule: the results are bytes and follow from their keys. A journal is read in the order in which it was written; the
first entry that is torn, damaged or of another key ends what is believed, and the rest is computed and written anew.
"""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO

from tailkeep.errors import StorageError

_LENGTH = struct.Struct("<Q")
_DIGEST = hashlib.sha256().digest_size


class _Journal:
    """Opened when it is first read or written: most work is not slow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._believed = path.exists()
        self._file: IO[bytes] | None = None

    def read(self, key: bytes) -> bytes | None:
        """The next result if it is the one of `key`; else the journal ends here."""
        if not self._believed:
            return None
        file = self._opened()
        start = file.tell()
        result = self._next(file, key)
        if result is None:
            self._believed = False
            file.seek(start)
            file.truncate()
        return result

    def _next(self, file: IO[bytes], key: bytes) -> bytes | None:
        head = file.read(_LENGTH.size + _DIGEST)
        if len(head) < _LENGTH.size + _DIGEST:
            return None
        (length,) = _LENGTH.unpack_from(head)
        # A damaged length must not ask for more memory than the file has bytes.
        if length > self.path.stat().st_size - file.tell():
            return None
        result = file.read(length)
        return result if head[_LENGTH.size :] == _digest(key, result) else None

    def write(self, key: bytes, result: bytes) -> None:
        file = self._opened()
        file.write(_LENGTH.pack(len(result)) + _digest(key, result) + result)
        file.flush()

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("r+b" if self.path.exists() else "w+b")
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


_journal: ContextVar[_Journal | None] = ContextVar("journal", default=None)


@contextmanager
def keep_journal(path: Path | None) -> Iterator[None]:
    """Keep what `write_journal` gets at `path` until the work inside is done; with None nothing is kept.

    The file goes when the work ends without an error. After an error or a kill the next work there begins with it.
    """
    if path is None:
        yield
        return
    journal = _Journal(path)
    token = _journal.set(journal)
    try:
        yield
    finally:
        _journal.reset(token)
        journal.close()
    path.unlink(missing_ok=True)


def keeps_journal() -> bool:
    """Whether results are kept here, so that their keys are worth their time."""
    return _journal.get() is not None


def read_journal(key: bytes) -> bytes | None:
    """The result that an interrupted run has kept for `key`, None if it did not get so far.

    `key` names what the result depends on, beside what is the same in all that `keep_journal` encloses.

    Raises:
        StorageError: the journal cannot be read.
    """
    journal = _journal.get()
    if journal is None:
        return None
    with _errors(journal):
        return journal.read(key)


def write_journal(key: bytes, result: bytes) -> None:
    """Keep `result` for `key`, after `read_journal` had none.

    Raises:
        StorageError: the journal cannot be written.
    """
    if (journal := _journal.get()) is not None:
        with _errors(journal):
            journal.write(key, result)


@contextmanager
def _errors(journal: _Journal) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot use {journal.path}: {error.strerror}. Nothing finished is lost: free the disk or fix the "
            "permissions, then run the same command again."
        ) from error


def _digest(key: bytes, result: bytes) -> bytes:
    return hashlib.sha256(_LENGTH.pack(len(key)) + key + result).digest()
