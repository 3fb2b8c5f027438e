"""Shards: the files below an input, each a unit of work.

Rule: a shard's name is its path below the input root, so no worker, order or machine can change it.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tailkeep.data.corpus.io import (
    ENDINGS,
    Compression,
    Kind,
    TruncatedFileError,
    changed_at,
    format_of,
    ignored_as,
    is_local,
    open_parquet,
    open_store,
    readable,
)
from tailkeep.data.corpus.schema import Layout
from tailkeep.errors import ConfigError, InputError
from tailkeep.sanitize import redact

Unit = TypeVar("Unit")


@dataclass(frozen=True)
class FilePart:
    """Plain bytes `start` to `stop` (excluded) of a file of any format but parquet: whole documents.

    Attributes:
        row: the number of the first document in the file, from 0.
        line: the line of the file in which that begins, from 1.
        names: the row of names of a CSV file, with what stands before it.
    """

    start: int
    stop: int
    row: int
    line: int
    names: bytes = b""


@dataclass(frozen=True)
class Spool:
    """The plain bytes of a shard as a local file, so that a compressed file is decompressed once.

    `fault` says how the compressed file breaks off behind them. Whoever finds no such file decompresses again.
    """

    path: str
    fault: str = ""


@dataclass(frozen=True)
class Shard:
    """One unit of work: a file, row groups `start` to `stop` (excluded) of a parquet file, or a part of another file.

    `name` is the file's path below the input root, with `/`; `size` its bytes as they lie there; `changed` when it
    last became what it is, in seconds since 1970, None if its store does not tell.
    """

    name: str
    url: str
    kind: Kind
    compression: Compression
    size: int
    row_groups: tuple[int, int] | None = None
    changed: float | None = None
    part: FilePart | None = None
    spool: Spool | None = None

    @property
    def key(self) -> str:
        """The name of the unit of work: of the file, or of the file and the range."""
        if self.part is not None:
            return f"{self.name}/{self.part.start:012d}-{self.part.stop:012d}"
        if self.row_groups is None:
            return self.name
        start, stop = self.row_groups
        return f"{self.name}/{start:06d}-{stop:06d}"

    @property
    def folder(self) -> str:
        """What stands before the name in the URL, for messages: no credentials."""
        return redact(self.url.removesuffix(self.name))

    @property
    def whole(self) -> "Shard":
        """The file of which this is a part, as a shard of its own."""
        return replace(self, row_groups=None, part=None, spool=None)

    @property
    def documents(self) -> str:
        """Where its documents go, below the output: the file's own name, or a part for the join."""
        if self.part is not None:
            return f"parts/{self.key}"
        return f"documents/{self.name}" if self.row_groups is None else f"parts/{self.key}.parquet"

    def sources(self) -> dict[str, Any]:
        """What of the shard decides a result, for a fingerprint; of its content the size, see `check_unchanged`."""
        return {
            "shard": self.key,
            "kind": self.kind,
            "compression": self.compression,
            "bytes": self.size,
        }


@dataclass(frozen=True)
class Bundle:
    """What is worked on at once: one shard, or several small files of one format and, if there are any, one side."""

    shards: tuple[Shard, ...]

    @property
    def key(self) -> str:
        """The name of the unit of work, that of its first shard."""
        return self.shards[0].key


_BUNDLE_FILES, _SMALL_BYTES = 32, 1 << 15
# So many bundles are left to share among workers.
_BUNDLES = 16


def bundle_shards(shards: Sequence[Shard], *, small_bytes: int = _SMALL_BYTES, by_side: bool = False) -> list[Bundle]:
    """`shards` in bundles of consecutive small files, at most 32 and at most a 16th of all; any other shard alone.

    A small file is a whole one, not compressed, of at most `small_bytes` and 32 KiB. Which files share a bundle follows
    from the list of all shards of a run, so no worker or task can change it. `by_side`: the name of a shard begins with
    its side, and no bundle has two.
    """
    limit, most = min(small_bytes, _SMALL_BYTES), min(_BUNDLE_FILES, len(shards) // _BUNDLES)
    bundles: list[list[Shard]] = []
    last: tuple[str, ...] | None = None
    for shard in shards:
        is_small = shard.size <= limit and shard.compression == "none" and shard.key == shard.name
        group = (shard.kind, side_of(shard.name) if by_side else "") if is_small else None
        if is_small and group == last and len(bundles[-1]) < most:
            bundles[-1].append(shard)
        else:
            bundles.append([shard])
        last = group
    return [Bundle(tuple(bundle)) for bundle in bundles]


def side_of(name: str) -> str:
    """The side with which the name or key of a shard begins, where it does; see `find_sides`."""
    return name.partition("/")[0]


def name_in_side(name: str) -> str:
    """The name or key of such a shard without its side."""
    return name.partition("/")[2]


_ROW_GROUPS = re.compile(r"/\d{6,}-\d{6,}$")
"""What the key of row groups adds to the name of their file."""


def file_of_key(key: str) -> str:
    """The name of the file that a key of a shard, or a part of the file, belongs to."""
    return _ROW_GROUPS.sub("", key)


class ShardList(list[Shard]):
    """Shards, and how many files beside them were `ignored`, by kind."""

    def __init__(self, shards: Iterable[Shard], ignored: Mapping[str, int]) -> None:
        super().__init__(shards)
        self.ignored = Counter(ignored)


def find_shards(
    inputs: str | Path | Sequence[str | Path], layout: Layout | None = None, *, row_groups: int | None = None
) -> ShardList:
    """The shards of `inputs`, sorted by name: globs, folders or files, local or as fsspec URLs.

    Of a folder or a glob, the files with a known ending are taken, or all if the layout names their format. Hidden
    files, markers such as `_SUCCESS` and documentation are ignored and counted; any other file is an error. The input
    root is the folder, the file's folder or the part of the glob before the first wildcard; of several inputs, what
    their roots have in common.

    Args:
        inputs: one input or several.
        layout: its `format` and `ignore` decide which files are read.
        row_groups: cut a parquet file into shards of at most so many row groups; whole files by default.

    Raises:
        InputError: there is no such file, its ending is unknown, or it cannot be listed.
    """
    paths = [str(item) for item in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    if not paths:
        raise InputError("no input is given. Name a file, a folder or a glob.")
    layout = layout or Layout()
    listings = [_list(text, layout) for text in paths]
    protocols = {listing.prefix for listing in listings}
    if len(protocols) > 1:
        raise InputError(f"the inputs lie in different stores: {sorted(protocols)}. Run one command for each.")
    root = _common_root([listing.root for listing in listings])
    files = {path: (listing.prefix, detail) for listing in listings for path, detail in listing.files.items()}
    shards = [
        _shard(prefix + path, posixpath.relpath(path, root), detail, layout) for path, (prefix, detail) in files.items()
    ]
    if row_groups is not None:
        shards = [part for shard in shards for part in _split(shard, row_groups)]
    ignored = {path: kind for listing in listings for path, kind in listing.ignored.items() if path not in files}
    return ShardList(
        sorted(shards, key=lambda shard: (shard.name, shard.row_groups or (0, 0))), Counter(ignored.values())
    )


_INDEX, _COUNT, _FIRST, _STEP = (f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "STEP"))


@dataclass(frozen=True)
class Task:
    """Number `index`, from 0, of `count` tasks."""

    index: int = 0
    count: int = 1

    @property
    def name(self) -> str:
        """The task as a name of a file."""
        return f"{self.index}-of-{self.count}"


def task_here(index: int | None, count: int | None, environment: Mapping[str, str]) -> Task:
    """The task of this process: what is given, else what a Slurm array says, else the whole.

    Raises:
        ConfigError: only one of the two is known.
    """
    if index is None and _INDEX in environment:
        first, step = int(environment.get(_FIRST, "0")), int(environment.get(_STEP, "1"))
        index = (int(environment[_INDEX]) - first) // step
    if count is None and _COUNT in environment:
        count = int(environment[_COUNT])
    if index is None and count is None:
        return Task()
    if index is None or count is None:
        stated, missing = ("num_tasks", "task_index") if index is None else ("task_index", "num_tasks")
        raise ConfigError(f"{stated} is {count if index is None else index}, and {missing} is missing. Give both.")
    return Task(index, count)


def shards_of_task(shards: Sequence[Unit], task: Task) -> list[Unit]:
    """The share of `task`, every `task.count`-th shard or bundle: the number of tasks changes no output.

    Raises:
        ConfigError: there is no such task.
    """
    if task.count < 1 or not 0 <= task.index < task.count:
        raise ConfigError(f"task {task.index} of {task.count} does not exist. Count tasks from 0 to num_tasks - 1.")
    return list(shards[task.index :: task.count])


@dataclass(frozen=True)
class _Listing:
    """The files of one input, {path: what the store says}, below `root`; `prefix` makes their paths URLs."""

    prefix: str
    root: str
    files: dict[str, Mapping[str, Any]]
    ignored: dict[str, str]


def _list(text: str, layout: Layout) -> _Listing:
    shown = redact(text)
    store, path = open_store(text)
    ignored: dict[str, str] = {}
    with readable(shown):
        # A client may remember what it was told in an earlier run of this process.
        store.invalidate_cache()
        path = path.rstrip("/") or "/"
        if store.isdir(path):
            root, details = path, store.find(path, detail=True)
        elif store.exists(path):
            root, details = posixpath.dirname(path), {path: store.info(path)}
        else:
            root, details = split_glob(path)[0], store.glob(path, detail=True)
            # A glob that matches a folder means what is in it, as the folder itself would.
            for name in [name for name, detail in details.items() if detail["type"] == "directory"]:
                del details[name]
                details |= store.find(name, detail=True)
    if list(details) != [path]:
        kinds = {name: ignored_as(posixpath.relpath(name, root), layout.ignore, layout.format) for name in details}
        ignored = {name: kind for name, kind in kinds.items() if kind is not None}
        details = {name: detail for name, detail in details.items() if name not in ignored}
        _check_formats(details, root, layout, shown)
    if not details:
        beside = (
            f" that is data; ignored are {_count_text(ignored)}. Known endings are {ENDINGS}, and --format "
            "(layout.format) says what files of other endings are"
            if ignored
            else ""
        )
        raise InputError(f"{shown} matches no file{beside}. Give an existing file, a folder or a glob.")
    # Local paths stay plain: a '#' or a '::' in one means something in a URL.
    prefix = "" if is_local(store) else text.removesuffix(text.split("://", 1)[-1])
    if path.startswith(prefix):  # http keeps its protocol in the path
        prefix = ""
    return _Listing(prefix, root, details, ignored)


_SHOWN_NAMES = 3


def _check_formats(details: Mapping[str, Any], root: str, layout: Layout, shown: str) -> None:
    """Refuse files of a folder that may be data and cannot be read."""
    unread = sorted(posixpath.relpath(name, root) for name in details if format_of(name, layout.format) is None)
    if unread:
        more = f" and {len(unread) - _SHOWN_NAMES:,} more" if len(unread) > _SHOWN_NAMES else ""
        raise InputError(
            f"{shown}: {len(unread):,} of {len(details):,} files have an unknown ending: "
            f"{', '.join(map(repr, unread[:_SHOWN_NAMES]))}{more}. Known are {ENDINGS}. Name what they are with "
            "--format (layout.format), or leave them out with --ignore PATTERN (layout.ignore)."
        )


def _count_text(ignored: Mapping[str, str]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(Counter(ignored.values()).items()))


def split_glob(pattern: str) -> tuple[str, str]:
    """The part of a glob before the first wildcard, up to the last `/`, and the rest."""
    fixed = pattern[: min((pattern.index(mark) for mark in "*?[" if mark in pattern), default=len(pattern))]
    folder = posixpath.dirname(fixed)
    return folder, pattern[len(folder) :].lstrip("/")


def _common_root(roots: list[str]) -> str:
    parts = [root.split("/") for root in roots]
    depth = 0
    while all(len(part) > depth and part[depth] == parts[0][depth] for part in parts):
        depth += 1
    return "/".join(parts[0][:depth]) or ("/" if roots[0].startswith("/") else ".")


def _shard(url: str, name: str, details: Mapping[str, Any], layout: Layout) -> Shard:
    form = format_of(name, layout.format)
    if form is None:
        raise InputError(
            f"{redact(url)} has an unknown ending. Known are {ENDINGS}. Rename it, or, in a command with "
            "--format, name what it is."
        )
    if details.get("type", "file") != "file":
        raise InputError(f"{redact(url)} is no regular file, such as a pipe. Write its content to a file first.")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{name!r}: the name is not UTF-8, so no output can carry it. Rename the file.") from None
    return Shard(name, url, *form, int(details["size"] or 0), changed=changed_at(details))


def _split(shard: Shard, row_groups: int) -> list[Shard]:
    if row_groups < 1:
        raise ConfigError(f"row_groups={row_groups}: a shard needs at least one. Use 1 or more.")
    if shard.kind != "parquet":
        return [shard]
    try:
        with open_parquet(shard.url, shard.name) as file:
            total = file.num_row_groups
    except TruncatedFileError:
        return [shard]  # whoever reads it rejects it
    if total <= row_groups:
        return [shard]
    starts = range(0, total, row_groups)
    return [replace(shard, row_groups=(start, min(start + row_groups, total))) for start in starts]
