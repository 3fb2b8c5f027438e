"""The one place where a run directory is written: every mkdir, write, fsync, rename and removal goes through here.

Rule: a name that exists is complete. Content is written under a temporary name beside its target, flushed to
the disk and renamed, so a reader or a resumed run never sees half a file or half a folder.

A journal is the exception: it may be torn, and is read up to the first torn entry. It keeps slow results inside one
piece of work, so that work which was interrupted goes on where it stopped:

    with keep_journal(path):
        if (result := read_journal(key)) is None:
            write_journal(key, result := compute())

Its results are bytes and follow from their keys. It is read in the order in which it was written; the first entry that
is torn, damaged or of another key ends what is believed, and the rest is computed and written anew.
"""

import csv
import errno
import hashlib
import io
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

from tailkeep.errors import StorageError

TEMPORARY = ".partial"

# Some network file systems have no fsync for folders and say so with one of these; their renames are safe without.
_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP}

# The length of a result in a journal, and the size of the hash behind it.
_LENGTH = struct.Struct("<Q")
_DIGEST = hashlib.sha256().digest_size


class Storage:
    """Durable, all-or-nothing writes.

    Subclasses may override the primitives `_make`, `_write`, `_fill`, `_fsync`, `_rename`, `_remove`; tests do so to
    make the n-th of them fail or kill the process.
    """

    def write_text(self, path: Path, text: str) -> None:
        """Put `text` (UTF-8) at `path`, replacing what is there.

        Raises:
            StorageError: the file system refused; at `path` is the old content or the new, whole.
        """
        self.write_bytes(path, text.encode("utf-8"))

    def write_bytes(self, path: Path, content: bytes) -> None:
        """Put `content` at `path`, replacing what is there.

        Raises:
            StorageError: the file system refused; at `path` is the old content or the new, whole.
        """
        self.write_files({path: content})

    def write_files(self, contents: Mapping[Path, bytes]) -> None:
        """Put each content at its path, replacing what is there; a folder of several is flushed once.

        Raises:
            StorageError: the file system refused; at each path is the old content or the new, whole.
        """
        for path, content in contents.items():
            with _explained(path):
                self._ensure(path.parent)
                self._write(_partial(path), content)
                self._fsync(_partial(path))
        for path in contents:
            with _explained(path):
                self._rename(_partial(path), path)
        for folder in dict.fromkeys(path.parent for path in contents):
            with _explained(folder):
                self._fsync(folder)

    def write_folder(self, path: Path, fill: Callable[[Path], None]) -> None:
        """Let `fill` write files into a new folder, then put it at `path`, where at most an empty folder may be.

        Raises:
            StorageError: the file system refused; at `path` is nothing, or the whole folder.
        """
        empty = path.is_dir() and not any(path.iterdir())
        assert empty or not os.path.lexists(path), f"{path} is there already; remove_folder comes first"
        partial = _partial(path)
        with _explained(path):
            self._ensure(path.parent)
            if os.path.lexists(partial):
                self._remove(partial)
            self._make(partial)
            with _translated():
                self._fill(partial, fill)
            for inner in sorted(partial.rglob("*")):
                self._fsync(inner)
            self._fsync(partial)
            self._rename(partial, path)
            self._fsync(path.parent)

    def remove_folder(self, path: Path) -> None:
        """Delete the folder at `path`, if there is one: first its name, in one step, then its content.

        Raises:
            StorageError: the file system refused; what `path` names is whole or gone.
        """
        partial = _partial(path)
        with _explained(path):
            if os.path.lexists(partial):
                self._remove(partial)
            if os.path.lexists(path):
                self._rename(path, partial)
                self._remove(partial)

    def move_folder(self, path: Path, target: Path) -> None:
        """Rename the folder at `path` to `target`, where nothing may be; both are on one file system.

        Raises:
            StorageError: the file system refused; the folder is whole at one of the two.
        """
        assert not os.path.lexists(target), f"{target} is there already"
        with _explained(target):
            self._ensure(target.parent)
            self._rename(path, target)
            self._fsync(target.parent)
            self._fsync(path.parent)

    def remove_partial(self, root: Path) -> None:
        """Delete what interrupted writes below `root` have left behind.

        Raises:
            StorageError: the file system refused.
        """
        with _explained(root):
            for path in sorted(root.rglob("*" + TEMPORARY)):
                if os.path.lexists(path):  # it may have gone with the folder around it
                    self._remove(path)

    def _ensure(self, folder: Path) -> None:
        """Make `folder` and what is missing above it, each name flushed like any other."""
        if not folder.is_dir():
            self._ensure(folder.parent)
            self._make(folder)
            self._fsync(folder.parent)

    def _make(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def _write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)

    def _fill(self, path: Path, fill: Callable[[Path], None]) -> None:
        fill(path)

    def _fsync(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_FSYNC or not path.is_dir():
                raise
        finally:
            os.close(descriptor)

    def _rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def _remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _partial(path: Path) -> Path:
    return path.with_name(path.name + TEMPORARY)


def csv_text(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table as CSV; each line ends with a line feed alone."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def files_below(folder: Path, ending: str) -> list[Path]:
    """The files below `folder` whose names end with `ending`, sorted.

    What belongs to the parts of a file stands in a folder of the file's name, ending included.
    """
    return sorted(path for path in folder.rglob(f"*{ending}") if path.is_file())


@contextmanager
def _explained(path: Path, *, verb: str = "write") -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot {verb} {path}: {reason}. Nothing finished is lost: free the disk or fix the permissions, "
            "then run the same command again."
        ) from error


@contextmanager
def _translated() -> Iterator[None]:
    """Libraries in Rust (safetensors, tokenizers) wrap the system's refusal in an exception of their own."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        match = re.search(r"\(os error (\d+)\)", str(error))
        if match is None:
            raise
        number = int(match[1])
        raise OSError(number, os.strerror(number)) from error


# The journal. It does not go through Storage: it is appended to, and no reader trusts its end.


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
    with _explained(journal.path, verb="use"):
        return journal.read(key)


def write_journal(key: bytes, result: bytes) -> None:
    """Keep `result` for `key`, after `read_journal` had none.

    Raises:
        StorageError: the journal cannot be written.
    """
    if (journal := _journal.get()) is not None:
        with _explained(journal.path, verb="use"):
            journal.write(key, result)


def _digest(key: bytes, result: bytes) -> bytes:
    return hashlib.sha256(_LENGTH.pack(len(key)) + key + result).digest()
