"""The output of a run over shards, in which several tasks may be at work at once.

    run.json  config.yaml  manifests/  what the run leaves of each shard  summary.json

Rule: each task is done by one process at a time; whoever finds nobody else at work sweeps up after the killed.
"""

import fcntl
import json
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from tailkeep.data.corpus.destination import Destination, Folder, ShardStorage, open_destination
from tailkeep.data.corpus.io import open_store, readable
from tailkeep.data.corpus.manifest import Manifest, clear_input_hashes
from tailkeep.data.corpus.shards import Task
from tailkeep.errors import BusyError, ConfigError, InputError
from tailkeep.runs import RunRecord
from tailkeep.runs.storage import TEMPORARY
from tailkeep.sanitize import redact

RECORD, CONFIG = "run.json", "config.yaml"
_LOCK, _LOCKS, _STAGING = ".lock", ".locks", ".staging"
_BEFORE_RECORD = {_LOCK, _LOCKS, _STAGING, CONFIG, f"{CONFIG}{TEMPORARY}", f"{RECORD}{TEMPORARY}"}


@dataclass(frozen=True)
class OutputRun:
    """The output of a run at `url`, held by one process; `root` is its folder, None in a store."""

    url: str
    destination: Destination
    root: Path | None

    def alone(self) -> AbstractContextManager[object]:
        """Hold what tasks write together, such as the summary; wait for another that does so."""
        return FileLock(self.root / _LOCKS / "together") if self.root else nullcontext()

    def local(self, name: str, folder: Path) -> Path:
        """The file `name` on this machine; of a store a copy, below `folder`."""
        if self.root:
            return self.root / name
        store, path = open_store(self.url)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with readable(redact(f"{path}/{name}")):
            store.get_file(f"{path}/{name}", str(folder / name))
        return folder / name


@dataclass(frozen=True)
class Contents:
    """What a kind of run leaves: the folders of its shards' files, and names that are there before any shard is."""

    folders: tuple[str, ...]
    early: frozenset[str] = frozenset()


@contextmanager
def open_output_run(
    out: str | Path,
    record: RunRecord,
    *,
    config: str,
    task: Task,
    contents: Contents,
    storage: ShardStorage | None = None,
) -> Iterator[OutputRun]:
    """Start the run `record` at `out`, or go on with it, and hold `task` of it against other processes.

    In a store behind fsspec there are no locks.

    Raises:
        BusyError: a process is at work on this task.
        FingerprintError: the run there came from something else and has finished a shard; the message says what
            differs.
        InputError: `out` is a file, a folder of other things, or cannot be written.
        StorageError: the file system refused a write.
    """
    clear_input_hashes()
    destination = open_destination(out, storage=storage)
    if not isinstance(destination, Folder):
        _begin(destination, record, config, str(out))
        yield OutputRun(str(out), destination, None)
        return
    root = Path(open_store(str(out))[1])
    _make_folder(root)
    with _open_lock(root / _LOCK) as lock, _locked(root, task):
        _prepare(lock, destination, record, config, root, contents)
        yield OutputRun(str(out), destination, root)
        # A worker that was killed and replaced has left what it was writing.
        if _try_exclusive(lock):
            destination.sweep()


def _prepare(
    lock: IO[str], destination: Destination, record: RunRecord, config: str, root: Path, contents: Contents
) -> None:
    """Leave `lock` shared, and the record of the run in `destination`."""
    while True:
        if _try_exclusive(lock):
            _check_no_other_content(root)
            _begin(destination, record, config, str(root), anew=_has_no_shard_output(root, contents))
            destination.sweep()
            fcntl.flock(lock, fcntl.LOCK_SH)
            return
        # Somebody is beginning the run, or at work on another task of it.
        fcntl.flock(lock, fcntl.LOCK_SH)
        if destination.read_text(RECORD) is not None:
            _begin(destination, record, config, str(root))
            return
        fcntl.flock(lock, fcntl.LOCK_UN)


def _begin(destination: Destination, record: RunRecord, config: str, out: str, *, anew: bool = False) -> None:
    """Leave `record` in `destination`; with `anew`, in place of that of another of its kind."""
    text = destination.read_text(RECORD)
    if text is None:
        _write(destination, record, config)
        return
    try:
        existing = RunRecord.model_validate_json(text)
    except ValueError:
        raise InputError(f"{redact(out)}/{RECORD} is not the record of a run. Give a new or an empty folder.") from None
    if anew and existing.kind == record.kind:
        _write(destination, record, config)
    else:
        record.check_same_run(existing, redact(out))


def _write(destination: Destination, record: RunRecord, config: str) -> None:
    destination.write_text(CONFIG, redact(config))
    destination.write_text(RECORD, record.text())


def _has_no_shard_output(root: Path, contents: Contents) -> bool:
    """Whether no shard has left anything at `root`: then a first mistake in the configuration costs no folder."""
    files = (path for name in ("manifests", *contents.folders) for path in (root / name).rglob("*") if path.is_file())
    return all(path.name in contents.early for path in files)


def _check_no_other_content(root: Path) -> None:
    # The locks are the first files of ours.
    others = sorted({path.name for path in root.iterdir()} - _BEFORE_RECORD)
    if others and not (root / RECORD).exists():
        raise InputError(f"{root} holds other things, such as {others[0]!r}. Give a new or an empty folder.")


def _make_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file. Give the path of a folder.")
    try:
        (path / _LOCKS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create {path}: {error.strerror}. Give a folder that can be written.") from None


def _try_exclusive(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _open_lock(path: Path) -> Iterator[IO[str]]:
    # The kernel drops a lock with its process, so a killed run never blocks the next one.
    try:
        file = path.open("a")
    except OSError as error:
        raise InputError(
            f"cannot write in {path.parent}: {error.strerror}. Give a folder that can be written."
        ) from None
    with file:
        yield file


@contextmanager
def _locked(root: Path, task: Task) -> Iterator[None]:
    lock = FileLock(root / _LOCKS / task.name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        what = "" if task.count == 1 else f"task {task.index} of {task.count} of "
        raise BusyError(f"another process is at work on {what}{root}. Wait for it, or give another --out.") from None
    except OSError as error:
        raise InputError(f"cannot write in {root}: {error.strerror}. Give a folder that can be written.") from None
    try:
        yield
    finally:
        lock.release()


def absolute_output(out: str | Path) -> str | Path:
    """`out` for a process with another working directory: a folder by its absolute path, a store by its URL."""
    return Path(open_store(str(out))[1]) if isinstance(open_destination(out), Folder) else out


def check_output_outside_input(out: str | Path, inputs: tuple[str, ...]) -> None:
    """Refuse an output in a folder that is input: the next run would take it for input.

    Raises:
        ConfigError: `out` lies there.
    """
    if "://" in str(out):
        return
    target = Path(out).resolve()
    for path in inputs:
        if "://" not in path and Path(path).is_dir() and target.is_relative_to(Path(path).resolve()):
            raise ConfigError(f"--out {out} lies in the input {path}. Give a folder outside of it.")


_FOLDER = "rejects/"


@dataclass(frozen=True)
class Rejects:
    """The place and the reason of the first rejected document, and the `torn` files, whose rest is lost."""

    first: str = ""
    torn: tuple[str, ...] = ()


def read_rejects(manifests: Sequence[Manifest], opened: OutputRun) -> Rejects:
    """Those of the shards of `manifests`, in their order."""
    first, torn = "", []
    for manifest in manifests:
        for name in (name for name in manifest.outputs if name.startswith(_FOLDER)):
            # A copy from a store is thrown away before the next one, for there may be many.
            with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
                head, last = _ends(opened.local(name, Path(folder)))
            first = first or f"{head['where']}: {head['reason']}"
            # Behind a tear nothing is read, so it is the last.
            if last.get("torn"):
                torn.append(name.removeprefix(_FOLDER).removesuffix(".jsonl"))
    return Rejects(first, tuple(torn))


def _ends(log: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first and the last line of `log`; lines between are not held, since they carry whole documents."""
    with log.open("rb") as lines:
        first = next(lines)
        last = deque(lines, maxlen=1)
    return json.loads(first), json.loads(last[0] if last else first)
