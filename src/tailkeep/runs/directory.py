"""A run directory: what produced it, and its cells.

    run.json  config.yaml  cells/  metrics.jsonl  timings.jsonl  report.html  figures/  tables/

Rule: one process at a time works on it, and everything outside `cells/` can be rebuilt from finished cells.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tailkeep.config import Tree, parse_yaml, redact_yaml
from tailkeep.errors import BusyError, ConfigError, InputError
from tailkeep.runs.generation_dir import GenerationDir
from tailkeep.runs.record import RECORD, RECORD_COPY, RunRecord
from tailkeep.runs.storage import TEMPORARY, Storage

_LOCK = ".lock"
_CONFIG, _CONFIG_COPY = "config.yaml", ".config.yaml"
"""The copy begins with a line that has the sha256 of the rest, so it says whether either is damaged."""
_CONFIGS = (_CONFIG, _CONFIG_COPY)
_BEFORE_RECORD = {_LOCK, *_CONFIGS, *(f"{name}{TEMPORARY}" for name in (*_CONFIGS, RECORD, RECORD_COPY))}
_ARM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_NUMBER = re.compile(r"-?[0-9]+")


class RunDirectory:
    """The folder of one run. Open one with `create` to write, with `open` to read."""

    def __init__(self, path: Path, record: RunRecord, storage: Storage) -> None:
        self.path = path
        self.record = record
        self.storage = storage

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Read an existing run, finished or not; no lock is taken.

        Raises:
            InputError: there is no run at `path`.
        """
        if not (path / "run.json").is_file():
            raise InputError(f"{path} holds no run.json. Give a directory that a tailkeep command has written.")
        return cls(path, RunRecord.read(path / "run.json"), Storage())

    @classmethod
    @contextmanager
    def create(
        cls,
        path: Path,
        record: RunRecord,
        *,
        config: str,
        storage: Storage | None = None,
        extend: "Extend | None" = None,
    ) -> Iterator["RunDirectory"]:
        """Start a run at `path`, or resume the one that is there, and hold it against other processes.

        The run that is there must have the same record, unless `extend` says what it becomes.

        Raises:
            BusyError: a process is at work there.
            FingerprintError: the run there came from something else; the message says what differs.
            InputError: the path is a file, a folder of other things, or cannot be written.
            StorageError: the file system refused a write.
        """
        storage = storage or Storage()
        make_run_folder(path)
        _check_no_other_content(path)
        with hold_run_folder(path, _LOCK):
            existing = RunRecord.existing(partial(_read, path), str(path))
            text = (existing or record).text()
            if existing is None:
                _write_config(storage, path, config)
            else:
                _restore_config(storage, path)
                if extend is None:
                    record.check_same_run(existing, str(path))
                else:
                    run = cls(path, existing, storage)
                    record, config = extend(run)
                    text = record.text()
                    # Before the record: the call that a kill interrupts before that does all of it again.
                    _write_config(storage, path, config)
                storage.remove_partial(path)
            for name in (RECORD_COPY, RECORD):
                if _read(path, name) != text.encode("utf-8"):
                    storage.write_text(path / name, text)
            yield cls(path, record, storage)

    def set_aside(self, arm: str) -> None:
        """Move the generations of `arm` to `set_aside/<arm>-<number>`, which nothing reads.

        Raises:
            StorageError: the file system refused.
        """
        folder = self.path / "cells" / arm
        targets = (self.path / "set_aside" / f"{arm}-{number}" for number in itertools.count(1))
        if folder.is_dir():
            self.storage.move_folder(folder, next(target for target in targets if not target.exists()))

    def generation_dir(self, arm: str, seed: int, generation: int) -> GenerationDir:
        """The cell of that name, finished or not.

        Raises:
            ConfigError: `arm` cannot be the name of a folder.
        """
        if not _ARM.fullmatch(arm) or arm.endswith(TEMPORARY):
            raise ConfigError(
                f"the arm name {arm!r} cannot name a folder. Use letters, digits, '_', '-' and '.'; "
                f"begin with none of the last two and do not end with {TEMPORARY!r}."
            )
        folder = self.path / "cells" / arm / str(seed) / str(generation)
        return GenerationDir(arm, seed, generation, folder, self.storage)

    def generation_dirs(self, *, only_done: bool = True) -> list[GenerationDir]:
        """All cells, by arm, seed and generation; unfinished ones on request."""
        folders = [
            self.generation_dir(arm, int(seed), int(generation))
            for arm, seed, generation in (path.parts[-3:] for path in (self.path / "cells").glob("*/*/*"))
            if _ARM.fullmatch(arm) and _NUMBER.fullmatch(seed) and _NUMBER.fullmatch(generation)
        ]
        folders.sort(key=lambda cell: (cell.arm, cell.seed, cell.generation))
        return [cell for cell in folders if cell.done or not only_done]

    def config_text(self) -> str:
        """The text of `config.yaml`; empty if there is none.

        Raises:
            InputError: it cannot be read, or has another sha256 than its copy records.
        """
        path, copy = self.path / _CONFIG, (_read(self.path, _CONFIG_COPY) or b"").decode("utf-8", "replace")
        content = _read(self.path, _CONFIG) or b""
        line, _, text = copy.partition("\n")
        if line == f"# sha256 {_sha256(text)}" and content != text.encode("utf-8"):
            raise InputError(
                f"{path} is damaged: its sha256 is not the one in {_CONFIG_COPY}. Run the same command again, which "
                "restores it."
            )
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 at byte {error.start}. Pack or merge the run again.") from None

    def config_tree(self) -> Tree:
        """The keys and values of `config.yaml`; empty if there is none.

        Raises:
            ConfigError: it is not a YAML mapping.
            InputError: see `config_text`.
        """
        text, path = self.config_text(), self.path / _CONFIG
        tree = parse_yaml(text, source=str(path)) if path.exists() else {}
        if not isinstance(tree, dict):
            raise ConfigError(f"{path}: expected keys and values. Pack or merge the run again.")
        return tree

    def collect(self) -> None:
        """Rebuild `metrics.jsonl` and `timings.jsonl` from finished cells."""
        for name, text in collected(self.generation_dirs()).items():
            self.storage.write_text(self.path / name, text)


Extend = Callable[[RunDirectory], tuple[RunRecord, str]]
"""From the run that is there to the record and the configuration that it is to have. It may move generations aside."""


def collected(cells: Sequence[GenerationDir]) -> dict[str, str]:
    """The texts of `metrics.jsonl` and `timings.jsonl`: one line for each of the finished `cells`."""
    names = ("arm", "seed", "generation", "learner")
    rows = [cell.metrics() for cell in cells]
    flat = [{**{name: row[name] for name in names}, **row["metrics"]} for row in rows]
    times = [{"arm": cell.arm, "seed": cell.seed, "generation": cell.generation, **cell.timings()} for cell in cells]
    return {"metrics.jsonl": _lines(flat), "timings.jsonl": _lines(times)}


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _read(path: Path, name: str) -> bytes | None:
    return (path / name).read_bytes() if (path / name).is_file() else None


def _write_config(storage: Storage, path: Path, text: str) -> None:
    """Leave `text` as the config of the run at `path`, and in its copy, without what secret keys hold."""
    text = redact_yaml(text, source=str(path / _CONFIG))
    for name, content in ((_CONFIG_COPY, f"# sha256 {_sha256(text)}\n{text}"), (_CONFIG, text)):
        if _read(path, name) != content.encode("utf-8"):
            storage.write_text(path / name, content)


def _restore_config(storage: Storage, path: Path) -> None:
    """Write the config of the run at `path` anew from its copy, unless that is missing or damaged itself."""
    copy = (_read(path, _CONFIG_COPY) or b"").decode("utf-8", "replace")
    line, _, text = copy.partition("\n")
    if line == f"# sha256 {_sha256(text)}" and _read(path, _CONFIG) != text.encode("utf-8"):
        storage.write_text(path / _CONFIG, text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _check_no_other_content(path: Path) -> None:
    # The lock is the first file of ours, so without it even a config.yaml is somebody else's.
    if any((path / name).exists() for name in (RECORD, RECORD_COPY)):
        return
    names = {inner.name for inner in path.iterdir()}
    others = sorted(names - _BEFORE_RECORD if _LOCK in names else names)
    if others:
        raise InputError(f"{path} holds other things, such as {others[0]!r}. Give a new or an empty folder.")


def make_run_folder(path: Path, subfolder: str = "") -> None:
    """Create the folder of a run, and `subfolder` in it.

    Raises:
        InputError: the path is a file, or cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file. Give the path of a folder.")
    try:
        (path / subfolder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create {path}: {error.strerror}. Give a folder that can be written.") from None


@contextmanager
def hold_run_folder(path: Path, lock_file: str, *, part: str = "") -> Iterator[None]:
    """Hold the run at `path`, or that `part` of it whose `lock_file` it is, against other processes.

    Raises:
        BusyError: a process is at work there.
        InputError: the folder cannot be written.
    """
    # The kernel drops this lock with the process, so a killed run never blocks the next one.
    lock = FileLock(path / lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"another process is at work on {part}{path}. Wait for it to end, or give another --out."
        ) from None
    except OSError as error:
        raise InputError(f"cannot write in {path}: {error.strerror}. Give a folder that can be written.") from None
    try:
        yield
    finally:
        lock.release()
