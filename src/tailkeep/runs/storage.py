"""The one place where a run directory is written: every mkdir, write, fsync, rename and removal goes through here.

Rule: a name that exists is complete. Content is written under a temporary name beside its target, flushed to
the disk and renamed, so a reader or a resumed run never sees half a file or half a folder.
"""

import csv
import errno
import io
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tailkeep.errors import StorageError

TEMPORARY = ".partial"

# Some network file systems have no fsync for folders and say so with one of these; their renames are safe without.
_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP}


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
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot write {path}: {reason}. Nothing finished is lost: free the disk or fix the permissions, "
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
