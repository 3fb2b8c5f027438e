"""Destinations of output: a local folder, or a store behind fsspec.

Rule: a file that exists is complete. A folder gets files by rename; a store, which has no rename, by one PUT per file.
"""

import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from tailkeep.config import Settings
from tailkeep.data.corpus.io import error_reason, is_local, open_store, readable, sha256_of, store_errors, upload
from tailkeep.errors import StorageError
from tailkeep.runs import Storage
from tailkeep.runs.storage import TEMPORARY
from tailkeep.sanitize import redact

Fill = Callable[[Path], None]

_STAGING = ".staging"


class Output(Settings):
    """The size and the sha256 of one file."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "Output":
        """The size and the sha256 of the local file at `path`."""
        with path.open("rb") as file:
            return cls(bytes=path.stat().st_size, sha256=sha256_of(file))


class Destination(Protocol):
    """Takes the outputs of shards. A name is a path below the destination, with `/`."""

    def publish(self, fill: Fill) -> dict[str, Output]:
        """Let `fill` write files into a new local folder, then store each under its path in that folder.

        Returns:
            The stored files, by name.

        Raises:
            StorageError: a write failed. Every file that has a name is complete, old or new.
        """

    def write_texts(self, texts: Mapping[str, str]) -> None:
        """Store each text under its name."""

    def read(self, name: str) -> bytes | None:
        """The content under `name`, None if there is none."""

    def size(self, name: str) -> int | None:
        """The size in bytes of the file under `name`, None if there is none."""

    def sha256(self, name: str) -> str:
        """The sha256 of the file under `name`."""

    def local(self, name: str, folder: Path) -> Path:
        """The file under `name` on this machine; of a store a copy, below `folder`."""

    def names(self, folder: str) -> list[str]:
        """The names of the files in `folder`, without those in folders below it."""

    def scratch(self) -> AbstractContextManager[Path]:
        """A new local folder that is deleted at the end, or by `sweep`."""

    def remove(self, name: str) -> None:
        """Delete the file under `name`, if there is one."""

    def journal(self, name: str) -> Path | None:
        """Where a journal called `name` outlives the process; None in a store, which has no such place."""

    def remove_journals(self) -> None:
        """Delete the journals of work that was finished just before its process was killed. Nobody may be at work."""

    def sweep(self) -> None:
        """Delete the partial files of killed processes. No other process may be working here."""


def open_destination(out: str | Path, *, storage: "ShardStorage | None" = None) -> Destination:
    """The folder or the store at `out`; `storage` performs the writes to a folder.

    Raises:
        InputError: the protocol of `out` is unknown.
        MissingPackageError: the package for it is not installed.
    """
    store, path = open_store(str(out))
    if is_local(store):
        return Folder(Path(path), storage or ShardStorage())
    assert storage is None, "a storage writes to folders only"
    return Bucket(store, path.rstrip("/"))


class ShardStorage(Storage):
    """A `Storage` that also takes the files of a shard at once."""

    def write_outputs(self, root: Path, staging: Path, fill: Fill) -> dict[str, Output]:
        """Let `fill` write files into the new folder `staging`, then rename each to its path there below `root`.

        Raises:
            StorageError: a write failed. Every file below `root` is complete, old or new.
        """
        with write_errors(str(root)):
            self._ensure(staging.parent)
            self._make(staging)
            try:
                self._fill(staging, fill)
                outputs = self._put(root, _files_below(staging))
            except Exception:
                # Half a shard would keep a full disk full until the next run.
                with suppress(OSError):
                    self._remove(staging)
                raise
            self._remove(staging)
        return outputs

    def _put(self, root: Path, files: Mapping[str, Path]) -> dict[str, Output]:
        outputs = {name: Output.of(path) for name, path in files.items()}
        for path in files.values():
            self._fsync(path)
        for name, path in files.items():
            self._ensure((root / name).parent)
            self._rename(path, root / name)
        for folder in dict.fromkeys((root / name).parent for name in files):
            self._fsync(folder)
        return outputs

    def remove_file(self, path: Path) -> None:
        """Delete the file at `path`, if there is one."""
        with write_errors(str(path)):
            if path.is_file():
                self._remove(path)


class Folder:
    """A local folder."""

    def __init__(self, root: Path, storage: ShardStorage) -> None:
        self._root, self._storage = root, storage

    def publish(self, fill: Fill) -> dict[str, Output]:
        """See `Destination`. Files are staged below the same folder, since a rename cannot cross file systems."""
        # A unique name: a lost attempt may still be writing when the next one begins.
        return self._storage.write_outputs(self._root, self._root / _STAGING / f"{uuid.uuid4().hex}{TEMPORARY}", fill)

    def write_texts(self, texts: Mapping[str, str]) -> None:
        """See `Destination`."""
        self._storage.write_files({self._root / name: text.encode("utf-8") for name, text in texts.items()})

    def read(self, name: str) -> bytes | None:
        """See `Destination`."""
        path = self._root / name
        return path.read_bytes() if path.is_file() else None

    def size(self, name: str) -> int | None:
        """See `Destination`."""
        path = self._root / name
        return path.stat().st_size if path.is_file() else None

    def sha256(self, name: str) -> str:
        """See `Destination`."""
        return Output.of(self._root / name).sha256

    def local(self, name: str, folder: Path) -> Path:
        """See `Destination`."""
        del folder
        return self._root / name

    def names(self, folder: str) -> list[str]:
        """See `Destination`."""
        path = self._root / folder
        return sorted(file.name for file in path.iterdir() if file.is_file()) if path.is_dir() else []

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """See `Destination`. It lies where there is space for the output."""
        staging = self._root / _STAGING
        with write_errors(str(self._root)):
            staging.mkdir(parents=True, exist_ok=True)
            temporary = tempfile.TemporaryDirectory(dir=staging, suffix=TEMPORARY)
        with temporary as name:
            yield Path(name)

    def remove(self, name: str) -> None:
        """See `Destination`."""
        self._storage.remove_file(self._root / name)

    def journal(self, name: str) -> Path | None:
        """See `Destination`."""
        return self._root / _STAGING / f"{name}.journal"

    def remove_journals(self) -> None:
        """See `Destination`."""
        for path in (self._root / _STAGING).glob("*.journal"):
            self._storage.remove_file(path)

    def sweep(self) -> None:
        """See `Destination`."""
        self._storage.remove_partial(self._root)


class Bucket:
    """A store behind fsspec, such as S3. Files are written to the local disk first, then sent by one PUT each."""

    def __init__(self, store: Any, root: str) -> None:
        self._store, self._root = store, root

    def publish(self, fill: Fill) -> dict[str, Output]:
        """See `Destination`."""
        with self.scratch() as staging:
            with write_errors(str(staging)):
                fill(staging)
            files = _files_below(staging)
            outputs = {name: Output.of(path) for name, path in files.items()}
            for name, path in files.items():
                with write_errors(self._path(name)):
                    upload(self._store, path, self._path(name), outputs[name].sha256)
        return outputs

    def write_texts(self, texts: Mapping[str, str]) -> None:
        """See `Destination`."""
        for name, text in texts.items():
            with write_errors(self._path(name)):
                self._store.pipe_file(self._path(name), text.encode("utf-8"))

    def read(self, name: str) -> bytes | None:
        """See `Destination`."""
        with _read_errors(self._path(name)):
            try:
                return bytes(self._store.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def size(self, name: str) -> int | None:
        """See `Destination`."""
        with _read_errors(self._path(name)):
            try:
                return int(self._store.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def sha256(self, name: str) -> str:
        """See `Destination`."""
        with _read_errors(self._path(name)), self._store.open(self._path(name), "rb") as file:
            return sha256_of(file)

    def local(self, name: str, folder: Path) -> Path:
        """See `Destination`."""
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with readable(redact(self._path(name))):
            self._store.get_file(self._path(name), str(folder / name))
        return folder / name

    def names(self, folder: str) -> list[str]:
        """See `Destination`."""
        with _read_errors(self._path(folder)):
            paths = self._store.find(self._path(folder), maxdepth=1)
        return sorted(str(path).rpartition("/")[2] for path in paths)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """See `Destination`."""
        with tempfile.TemporaryDirectory(prefix="tailkeep-") as name:
            yield Path(name)

    def remove(self, name: str) -> None:
        """See `Destination`."""
        with write_errors(self._path(name)):
            if self._store.exists(self._path(name)):
                self._store.rm_file(self._path(name))

    def journal(self, name: str) -> Path | None:
        """See `Destination`."""
        del name
        return None

    def remove_journals(self) -> None:
        """Nothing to do: a store has no journals."""

    def sweep(self) -> None:
        """Nothing to do: a store never gets a partial file."""

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _files_below(folder: Path) -> Mapping[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def write_errors(name: str) -> Iterator[None]:
    """Turn the errors of a disk or store into a `StorageError` that `name` cannot be written."""
    try:
        yield
    except StorageError:
        raise
    except store_errors() as error:
        raise StorageError(
            f"cannot write {redact(name)}: {error_reason(error)}. Nothing finished is lost: free the disk or fix "
            "the permissions, then run the same command again."
        ) from error


@contextmanager
def _read_errors(name: str) -> Iterator[None]:
    try:
        yield
    except store_errors() as error:
        raise StorageError(
            f"cannot read {redact(name)}: {error_reason(error)}. Nothing finished is lost: check the store "
            "and your access, then run the same command again."
        ) from None
