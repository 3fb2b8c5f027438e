"""`run.json`: what a run directory holds and what produced it, with the fingerprint of all that can change a result.

Rules: nothing in `sources` is a credential. Two runs with one fingerprint give the same bytes; anything free (worker
count, order, kills) stays out of it. The time stamps and the JSON files of a run are read and written here too.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tailkeep import __version__
from tailkeep.config import Settings, validate
from tailkeep.errors import ConfigError, FingerprintError, InputError
from tailkeep.sanitize import redact_tree

_MAX_VALUE_LENGTH = 80
_MISSING = object()
_SEAL = "sha256"
RECORD, RECORD_COPY = "run.json", ".run.json"
"""The copy is read where the record itself is damaged."""


def hash_tree(tree: Mapping[str, Any]) -> str:
    """The sha256 of `tree` in canonical JSON, as 64 hexadecimal digits.

    A value that JSON does not know is a TypeError: its text could differ from one process to the next.
    """
    return hashlib.sha256(_canonical(tree).encode()).hexdigest()


def sealed_text(tree: Mapping[str, Any]) -> str:
    """`tree` as JSON, with the sha256 of the rest as its last key."""
    plain = json.loads(json.dumps(tree, ensure_ascii=False, allow_nan=False))
    return json.dumps({**plain, _SEAL: hash_tree(plain)}, indent=2, ensure_ascii=False) + "\n"


def read_sealed(path: Path, *, advice: str) -> dict[str, Any]:
    """The tree that `sealed_text` wrote to `path`; `advice` is the sentence on what to do if it is another one.

    Raises:
        InputError: the file cannot be read, or does not have the sha256 that it records.
    """
    try:
        tree = _parse_object(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. {advice}") from None
    except ValueError as error:
        raise InputError(f"{error}. {advice}") from None
    if tree.pop(_SEAL, None) != hash_tree(tree):
        raise InputError(f"{path} is damaged: it does not have the sha256 that it records. {advice}")
    return tree


def hash_path(path: Path) -> str:
    """The sha256 of a file's bytes, or of the relative names and bytes of all files below a folder.

    The path itself does not enter, so what is moved or renamed keeps its hash.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    try:
        if path.is_file():
            return _hash_file(path).hex()
        if path.is_dir():
            return _hash_folder(path).hex()
    except OSError as error:
        raise InputError(f"cannot read {error.filename or path}: {error.strerror}. Check its permissions.") from None
    raise InputError(f"{path} does not exist. Give the path of an existing file or folder.")


def versions(*packages: str) -> dict[str, str]:
    """The versions of tailkeep, Python and those of `packages` that are installed."""
    installed = {"tailkeep": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """One line for each leaf in which `new` is not `old`, such as `config.seeds: [0] there, [1] here`."""
    for key in sorted({*old, *new}):
        before, now = old.get(key, _MISSING), new.get(key, _MISSING)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from differences(before, now, f"{prefix}{key}.")
        elif before is _MISSING or now is _MISSING or _canonical(before) != _canonical(now):
            yield f"{prefix}{key}: {_short(before)} there, {_short(now)} here"


def _hash_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _hash_folder(path: Path) -> bytes:
    def refuse(error: OSError) -> None:
        raise error

    # os.walk, unlike Path.rglob, can be made to stop at a folder that cannot be read.
    files = []
    for folder, below, names in os.walk(path, onerror=refuse, followlinks=True):
        if folder != str(path) and Path(folder).parent.resolve().is_relative_to(Path(folder).resolve()):
            below.clear()  # a link to a folder that it is in
            continue
        files += [Path(folder, name) for name in names]
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        # Each part has a fixed length, so that no two folders can run together into one text.
        digest.update(hashlib.sha256(os.fsencode(file.relative_to(path).as_posix())).digest())
        digest.update(_hash_file(file))
    return digest.digest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _short(value: Any) -> str:
    text = "nothing" if value is _MISSING else json.dumps(value, ensure_ascii=True)
    return text if len(text) <= _MAX_VALUE_LENGTH else text[: _MAX_VALUE_LENGTH - 3] + "..."


class Addition(Settings):
    """A call that added something to a run of the laboratory: when, and each of its `arms` under each of its `seeds`.

    Attributes:
        at: UTC, such as 2026-01-31T12:00:00Z; SOURCE_DATE_EPOCH replaces the time (reproducible-builds.org).
        arms: the number of generations of each arm.
        accepted: the versions or devices that differed from those before, and were accepted.
        recomputed: the arms whose earlier generations were moved aside.
        merged: the names of the runs that were joined; then there are no arms.
    """

    at: str
    arms: dict[str, int]
    seeds: tuple[int, ...]
    accepted: tuple[str, ...] = ()
    recomputed: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()


def without_recomputed(history: Sequence[Addition]) -> tuple[Addition, ...]:
    """The history, each call without the arms that a later one computed again.

    A merge has left them out already. What was computed again in one of its runs stays in the others.
    """
    last_merge = max((number for number, addition in enumerate(history) if addition.merged), default=-1)
    rest = []
    for number, addition in enumerate(history):
        gone = {arm for later in history[max(number, last_merge) + 1 :] for arm in later.recomputed}
        arms = {arm: generations for arm, generations in addition.arms.items() if arm not in gone}
        rest.append(addition.model_copy(update={"arms": arms}))
    return tuple(rest)


class RunRecord(Settings):
    """The content of `run.json`. `fingerprint` is the hash of `sources`, of which the results are a function.

    `history` says when what was added, the first call included; only runs of the laboratory have one. `packed` is true
    in a pack: a run without its models and whole texts (see `runs.pack`), which nothing continues.
    """

    kind: str
    fingerprint: str
    sources: dict[str, Any]
    versions: dict[str, str]
    seeds: tuple[int, ...]
    history: tuple[Addition, ...] = ()
    packed: bool = False

    @property
    def chains(self) -> dict[tuple[str, int], int]:
        """The number of generations that each arm and seed of the history is to reach."""
        chains: dict[tuple[str, int], int] = {}
        for addition in without_recomputed(self.history):
            for arm, generations in addition.arms.items():
                for seed in addition.seeds:
                    chains[arm, seed] = max(generations, chains.get((arm, seed), 0))
        return chains

    def as_pack(self, arms: Collection[str] | None) -> "RunRecord":
        """The record of a pack of this run with `arms` alone, or with all: nothing is said of what it leaves out."""
        history = [
            addition.model_copy(
                update={
                    "arms": {arm: count for arm, count in addition.arms.items() if arms is None or arm in arms},
                    "recomputed": tuple(arm for arm in addition.recomputed if arms is None or arm in arms),
                }
            )
            for addition in self.history
        ]
        return self.model_copy(update={"packed": True, "history": tuple(history)})

    @classmethod
    def of(
        cls,
        kind: str,
        sources: Mapping[str, Any],
        *,
        installed: Mapping[str, str],
        seeds: tuple[int, ...],
        history: tuple[Addition, ...] = (),
    ) -> "RunRecord":
        """The record of a run whose results depend on `sources` alone.

        Credentials are taken out before the hash: a renewed token is no other run, and a hash can give away what is
        short. Tuples become lists, so that a record equals the one that is read back.
        """
        plain = json.loads(json.dumps(redact_tree(sources)))
        return cls(
            kind=kind,
            fingerprint=hash_tree(plain),
            sources=plain,
            versions=dict(installed),
            seeds=seeds,
            history=history,
        )

    @classmethod
    def read(cls, path: Path) -> "RunRecord":
        """The record in the file at `path`.

        Raises:
            InputError: it cannot be read, or is not a run record.
        """
        try:
            return cls.parse(path.read_bytes(), str(path))
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}. Give a directory with a whole run.") from None
        except ValueError as error:
            raise InputError(
                f"{error}. Give a directory that tailkeep has written; where its record is damaged, run the same "
                "command again, which restores it from its copy."
            ) from None

    @classmethod
    def parse(cls, content: bytes, where: str) -> "RunRecord":
        """The record in `content`, whose fingerprint is the hash of its sources.

        Raises:
            ValueError: it is none; the message says why.
        """
        tree = _parse_object(content, where)
        try:
            record = validate(cls, tree, source=where)
        except ConfigError as error:
            fault = str(error).splitlines()[0].removeprefix(f"{where}: ").split(". ")[0]
            raise ValueError(f"{where} is no record of a run ({fault})") from None
        if record.fingerprint != hash_tree(record.sources):
            raise ValueError(f"{where} is damaged: its fingerprint is not the hash of its sources")
        return record

    @classmethod
    def existing(cls, read: Callable[[str], bytes | None], where: str) -> "RunRecord | None":
        """The record of the run at `where`: that in `run.json`, else that in its copy; None if there is neither.

        `read` returns the content of a file of the run, None if there is no such file.

        Raises:
            InputError: there is one, and it is damaged.
        """
        faults = []
        for name in (RECORD, RECORD_COPY):
            content = read(name)
            try:
                if content is not None:
                    return cls.parse(content, f"{where}/{name}")
            except ValueError as error:
                faults.append(str(error))
        if faults:
            raise InputError(f"{'. '.join(faults)}. Nothing else says what the run came from. Give another --out.")
        return None

    def check_same_run(self, existing: "RunRecord", where: str) -> None:
        """Refuse to go on with the run `existing`, which stands at `where`, unless it is this one.

        Raises:
            FingerprintError: it came from something else; the message says what differs.
            InputError: it is a pack.
        """
        if existing.packed:
            raise InputError(
                f"{where} holds a pack, which is reported on and merged, not continued. Give another --out."
            )
        if (existing.fingerprint, existing.kind) == (self.fingerprint, self.kind):
            return
        if existing.kind != self.kind:
            raise FingerprintError(f"{where} holds another run, of `tailkeep {existing.kind}`. Give another --out.")
        old, new = existing.sources, self.sources
        lines = "\n".join(f"  {line}" for line in differences(old, new))
        raise FingerprintError(
            f"{where} holds another run. What differs:\n{lines}\n"
            "Give another --out, or the settings of the run that is there."
        )

    def check_same_sources(self, local: Mapping[str, Any]) -> None:
        """Refuse to work for this run in a process whose sources `local` differ.

        Raises:
            InputError: one of them is.
        """
        differing = "; ".join(differences({key: self.sources[key] for key in local}, local))
        if differing:
            raise InputError(
                f"the worker on {os.uname().nodename} is not equipped as the run is: {differing}. "
                "Give every machine the same packages and the same prior."
            )

    def text(self) -> str:
        """The record as JSON, one key a line."""
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True), indent=2, ensure_ascii=False) + "\n"


def utc_now() -> str:
    """The time, such as 2026-01-31T12:00:00Z, or that of the variable SOURCE_DATE_EPOCH (seconds since 1970)."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return utc_text(int(epoch) if epoch.isdigit() else time.time())


def utc_text(seconds: float) -> str:
    """A time in seconds since 1970, whole ones, such as 2026-01-31T12:00:00Z."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file at `path`.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    try:
        return _parse_object(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. Give a directory with a whole run.") from None
    except ValueError as error:
        raise InputError(f"{error}. Delete the file and run the same command again.") from None


def _parse_object(content: bytes, where: str) -> dict[str, Any]:
    """The JSON object in `content`.

    Raises:
        ValueError: it holds something else; the message names `where` and what is there.
    """
    try:
        tree = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON ({error})") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{where}: expected an object, got {type(tree).__name__}")
    return tree
