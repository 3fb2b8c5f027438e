"""The output of a run over shards, in which several tasks may be at work at once.

    run.json  config.yaml  manifests/  what the run leaves of each shard  summary.json

Rule: each task is done by one process at a time; whoever finds nobody else at work sweeps up after the killed.
"""

import fcntl
import json
import tempfile
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from tailkeep.config import redact_yaml
from tailkeep.data.corpus.destination import Destination, Folder, ShardStorage, open_destination
from tailkeep.data.corpus.io import open_store
from tailkeep.data.corpus.large_files import join_file
from tailkeep.data.corpus.manifest import Manifest, clear_input_hashes, fingerprint_of, manifest_name, read_finished
from tailkeep.data.corpus.schema import Layout
from tailkeep.data.corpus.shard_io import write_ids
from tailkeep.data.corpus.shards import Shard, Task, split_glob
from tailkeep.data.corpus.unique_ids import DuplicateId, check_unique_ids, find_duplicate_ids
from tailkeep.errors import ConfigError, InputError
from tailkeep.runs import RunRecord
from tailkeep.runs.directory import hold_run_folder, make_run_folder
from tailkeep.runs.record import RECORD, RECORD_COPY
from tailkeep.runs.storage import TEMPORARY
from tailkeep.sanitize import redact

CONFIG, SUMMARY = "config.yaml", "summary.json"
_LOCK, _LOCKS, _STAGING = ".lock", ".locks", ".staging"
_BEFORE_RECORD = {
    *(_LOCK, _LOCKS, _STAGING, CONFIG),
    *(f"{name}{TEMPORARY}" for name in (CONFIG, RECORD, RECORD_COPY)),
}


@dataclass(frozen=True)
class OutputRun:
    """The output of the run `record`, held by one process; `root` is its folder, None in a store."""

    record: RunRecord
    destination: Destination
    root: Path | None

    def finished_manifest(self, shard: Shard, *, verify: bool = False) -> Manifest | None:
        """The manifest by which `shard` is finished: that of the file of which it is a part, else its own.

        `verify` is as in `read_finished`.

        Raises:
            FingerprintError: the input has changed since.
        """
        # In this order: what remains of the parts behind a joined file must not count twice.
        for unit in dict.fromkeys((shard.whole, shard)):
            fingerprint = fingerprint_of(unit, self.record.fingerprint)
            if manifest := read_finished(unit, self.destination, fingerprint=fingerprint, verify=verify):
                return manifest
        return None

    def remove_damaged(self, shards: Sequence[Shard]) -> list[Shard]:
        """Those of `shards` that are finished and of whose outputs one has another sha256; they are so no longer."""
        damaged: list[Shard] = []
        known: dict[str, bool] = {}
        for shard in shards:
            manifest = self.finished_manifest(shard)
            if manifest is None:
                continue
            # All parts of a joined file are finished by its manifest.
            if manifest.shard not in known:
                known[manifest.shard] = self.finished_manifest(shard, verify=True) is None
            if known[manifest.shard]:
                damaged.append(shard)
        for shard in damaged:
            for unit in dict.fromkeys((shard.whole, shard)):
                self.destination.remove(manifest_name(unit.key))
        return damaged

    def alone(self) -> AbstractContextManager[object]:
        """Hold what tasks write together, such as the summary; wait for another that does so."""
        return FileLock(self.root / _LOCKS / "together") if self.root else nullcontext()


@dataclass(frozen=True)
class Contents:
    """What a kind of run leaves.

    Attributes:
        folders: the folders of its shards' files.
        early: names in them that are there before any shard is.
        failures: whether `failures/<key>.json` says what stopped the work on a shard.
        by_side: whether a shard's name begins with its side; small files of two sides share no bundle.
    """

    folders: tuple[str, ...]
    early: frozenset[str] = frozenset()
    failures: bool = False
    by_side: bool = False


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
        yield OutputRun(record, destination, None)
        return
    root = Path(open_store(str(out))[1])
    make_run_folder(root, _LOCKS)
    part = "" if task.count == 1 else f"task {task.index} of {task.count} of "
    with _open_lock(root / _LOCK) as lock, hold_run_folder(root, f"{_LOCKS}/{task.name}", part=part):
        _prepare(lock, destination, record, config, root, contents)
        yield OutputRun(record, destination, root)
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
        if RunRecord.existing(destination.read, redact(str(root))) is not None:
            _begin(destination, record, config, str(root))
            return
        fcntl.flock(lock, fcntl.LOCK_UN)


def _begin(destination: Destination, record: RunRecord, config: str, out: str, *, anew: bool = False) -> None:
    """Leave `record` in `destination`; with `anew`, in place of that of another of its kind."""
    existing = RunRecord.existing(destination.read, redact(out))
    is_new = existing is None or (anew and existing.kind == record.kind)
    if existing is not None and not is_new:
        record.check_same_run(existing, redact(out))
    config = redact_yaml(config, source=CONFIG)
    if destination.read(CONFIG) != config.encode("utf-8"):
        destination.write_texts({CONFIG: config})
    text = record.text() if existing is None or is_new else existing.text()
    for name in (RECORD_COPY, RECORD):
        if destination.read(name) != text.encode("utf-8"):
            destination.write_texts({name: text})


def _has_no_shard_output(root: Path, contents: Contents) -> bool:
    """Whether nothing at `root` is a result: then a first mistake in the configuration costs no folder.

    A run without shards, such as the forecast of a laboratory run, has a summary alone.
    """
    if (root / SUMMARY).exists():
        return False
    files = (path for name in ("manifests", *contents.folders) for path in (root / name).rglob("*") if path.is_file())
    return all(path.name in contents.early for path in files)


def _check_no_other_content(root: Path) -> None:
    # The locks are the first files of ours.
    others = sorted({path.name for path in root.iterdir()} - _BEFORE_RECORD)
    if others and not any((root / name).exists() for name in (RECORD, RECORD_COPY)):
        raise InputError(f"{root} holds other things, such as {others[0]!r}. Give a new or an empty folder.")


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


_LONGEST_NAME = 255 - len(".parquet.partial")


def check_names(shards: Sequence[Shard]) -> None:
    """Refuse files whose names leave no space for the endings of what is written about them, or are those of debris.

    Raises:
        InputError: a name is too long, or ends as an interrupted write does.
    """
    for shard in shards:
        if any(part.endswith(TEMPORARY) for part in shard.name.split("/")):
            raise InputError(
                f"{shard.name}: an output of this name would be deleted as the rest of an interrupted write. Rename "
                "the file."
            )
        length = max(len(part.encode("utf-8")) for part in shard.name.split("/"))
        if length > _LONGEST_NAME:
            raise InputError(
                f"{shard.name[:60]}...: a name of {length} bytes; outputs add an ending, so at most {_LONGEST_NAME} "
                "can be written. Rename the file."
            )


def check_output_outside_input(out: str | Path, inputs: tuple[str, ...]) -> None:
    """Refuse an output in a folder that is input, or where a glob finds it: the next run would take it for input.

    Raises:
        ConfigError: `out` lies there.
    """
    if "://" in str(out):
        return
    target = Path(out).resolve()
    for path in inputs:
        if "://" in path:
            continue
        root, pattern = (path, "") if Path(path).is_dir() else split_glob(path)
        folder = Path(root or ".").resolve()
        if target.is_relative_to(folder) and _finds(pattern, target.relative_to(folder).parts):
            raise ConfigError(f"--out {out} lies in the input {path}. Give a folder outside of it.")


def _finds(pattern: str, parts: Sequence[str]) -> bool:
    """Whether a glob `pattern`, "" for all, finds the folder of these `parts` or what a run writes there."""
    marks = pattern.split("/") if pattern else []
    for mark, name in zip(marks, parts, strict=False):
        if mark == "**":
            return True
        if not fnmatch(name, mark):
            return False
    rest = marks[len(parts) :]
    return len(rest) != 1 or any(fnmatch(name, rest[0]) for name in (RECORD, "documents"))


# What the files of the shards say together.

_REJECTS, _IDS = "rejects/", "ids/"


@dataclass(frozen=True)
class Rejects:
    """The place and the reason of the first rejected document, and the `torn` files, whose rest is lost."""

    first: str = ""
    torn: tuple[str, ...] = ()


def read_rejects(manifests: Sequence[Manifest], output: OutputRun) -> Rejects:
    """Those of the shards of `manifests`, in their order."""
    first, torn = "", []
    for manifest in manifests:
        for name in (name for name in manifest.outputs if name.startswith(_REJECTS)):
            # A copy from a store is thrown away before the next one, for there may be many.
            with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
                head, last = _ends(output.destination.local(name, Path(folder)))
            first = first or f"{head['where']}: {head['reason']}"
            # Behind a tear nothing is read, so it is the last.
            if last.get("torn"):
                torn.append(name.removeprefix(_REJECTS).removesuffix(".jsonl"))
    return Rejects(first, tuple(torn))


def _ends(log: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first and the last line of `log`; lines between are not held, since they carry whole documents."""
    with log.open("rb") as lines:
        first = next(lines)
        last = deque(lines, maxlen=1)
    return json.loads(first), json.loads(last[0] if last else first)


def find_duplicates(
    shards: Sequence[Shard], layout: Layout, output: OutputRun, *, remaining: Collection[Shard]
) -> Iterator[DuplicateId]:
    """The documents of `shards` whose id an earlier one has; the name of each is the key of its shard.

    The `remaining` shards and those that are not finished are read. Of the others the ids of all documents but those
    that were rejected for theirs are in the output.

    Raises:
        InputError: a file cannot be read at all.
    """
    # The parts of a joined file all name the lists of the whole, which count once.
    lists: dict[Path, str] = {}
    with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
        for number, shard in enumerate(shards):
            manifest = None if shard in remaining else output.finished_manifest(shard)
            if manifest is None:
                path = Path(folder, str(number))
                write_ids(shard, layout, path)
                lists[path] = shard.key
            else:
                names = [name for name in manifest.outputs if name.startswith(_IDS)]
                # A large file is one name, finished or not: who is first must not change in between.
                for name in names:
                    key = name[len(_IDS) : -len(".ids")] if shard.row_groups else shard.key
                    lists[output.destination.local(name, Path(folder, "ids"))] = key
        yield from find_duplicate_ids((key, path) for path, key in lists.items())


def check_unique_ids_of_run(manifests: Sequence[Manifest], output: OutputRun) -> None:
    """Check that no id stands in two shards.

    Raises:
        InputError: one does.
    """
    if names := [name for manifest in manifests for name in manifest.outputs if name.startswith(_IDS)]:
        with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
            files = {name: output.destination.local(name, Path(folder)) for name in names}
            check_unique_ids({name[len(_IDS) : -len(".ids")]: file for name, file in files.items()})


# Parquet files that were processed in parts.
#
# Rule: parts are removed only when the manifest of the whole says all that theirs did.


def join_finished_parts(shards: Sequence[Shard], output: OutputRun) -> None:
    """Join each file out of its parts, which are all finished."""
    files: dict[Shard, list[Shard]] = defaultdict(list)
    for shard in shards:
        if shard.row_groups is not None:
            files[shard.whole].append(shard)
    for whole, parts in files.items():
        fingerprint = fingerprint_of(whole, output.record.fingerprint)
        if not read_finished(whole, output.destination, fingerprint=fingerprint):
            manifests = [manifest for part in parts if (manifest := output.finished_manifest(part))]
            assert len(manifests) == len(parts), "only finished parts make a file"
            join_file(whole, manifests, output.destination, fingerprint)
        for part in parts:
            output.destination.remove(manifest_name(part.key))
            output.destination.remove(part.documents)
