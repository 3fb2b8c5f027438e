"""What can change a result, as a tree of plain values, and its hash.

Two runs with one fingerprint give the same bytes; anything free (worker count, order, kills) stays out of it.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tailkeep import __version__
from tailkeep.errors import InputError

_MAX_VALUE_LENGTH = 80
_MISSING = object()
_SEAL = "sha256"


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
        tree = json.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}. {advice}") from None
    if not isinstance(tree, dict):
        raise InputError(f"cannot read {path}: not a JSON object. {advice}")
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
    files = [Path(folder, name) for folder, _, names in os.walk(path, onerror=refuse) for name in names]
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
