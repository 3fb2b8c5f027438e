"""Reading the documents of one shard and writing them, each once, to its output.

    documents/<name>   edits/<key>.jsonl   rejects/<key>.jsonl   ids/<key>.ids

Rule: every document that is read is written, rejected or excluded, or an error is raised.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from tailkeep.data.corpus.io import TruncatedFileError, blocks, format_of, is_empty, open_output
from tailkeep.data.corpus.parquet import ParquetWriter, open_parquet_writer, read_parquet, read_rows
from tailkeep.data.corpus.schema import Content, Layout, Record, Rejected
from tailkeep.data.corpus.shards import Shard
from tailkeep.data.corpus.text_files import Bytes, LineWriter, blank_errors, raw_documents, read_lines, read_raw
from tailkeep.data.corpus.unique_ids import IdList
from tailkeep.errors import ConfigError, InputError
from tailkeep.runs import track_loop
from tailkeep.runs.progress import LoopProgress

OnError = Literal["stop", "skip"]
EMPTY = "empty_files"
"""The count of files that hold no document, which are no error: Spark and Ray write them."""


def read_shard(shard: Shard, layout: Layout, extra: str | None = None) -> Iterator[Record | Rejected]:
    """The documents of `shard`, in order; those that cannot be read as `Rejected`.

    Each has the value of the field `extra` beside those of the layout, if there is one.

    Raises:
        InputError: the file cannot be read at all.
    """
    return read_parquet(shard, layout, extra) if shard.kind == "parquet" else read_lines(shard, layout, extra)


def read_objects(shard: Shard, layout: Layout, *, folder: str | None = None) -> Iterator[tuple[str, Any]]:
    """The values of `shard`, objects as a rule, each with its place for error messages, which begins with `folder`.

    Raises:
        InputError: the file cannot be read, is plain text, or a value in it is none.
    """
    if shard.kind == "txt":
        raise InputError(f"{shard.url} is plain text, which has no fields. Give a file of objects, such as .jsonl.")
    folder = shard.folder if folder is None else folder
    documents = ((item.where, item.tree, item.fault) for item in read_raw(shard, layout))
    yield from _checked(read_rows(shard) if shard.kind == "parquet" else documents, folder)


def read_stream(file: IO[bytes], name: str) -> Iterator[tuple[str, Any]]:
    """As `read_objects`, from the open `file` called `name` in messages, of lines or a format that needs no seeking.

    Raises:
        InputError: as there.
    """
    kind, compression = format_of(name) or ("jsonl", "none")
    shard, layout = Shard(name, name, kind, compression, 0), Layout()
    with blank_errors(shard, layout):
        documents = raw_documents(blocks(file, compression), shard, layout)
        yield from _checked(((item.where, item.tree, item.fault) for item in documents), "")


def _checked(documents: Iterable[tuple[str, Any, str]], folder: str) -> Iterator[tuple[str, Any]]:
    for where, tree, fault in documents:
        if fault:
            raise InputError(f"{folder}{where}: {fault}.")
        yield f"{folder}{where}", tree


def track_shard(shard: Shard, *, amount_unit: str = "") -> LoopProgress:
    """The progress of the work on `shard`: plain bytes of documents, or rows of a parquet file."""
    if shard.kind == "parquet":
        return track_loop(0, "rows", amount_unit=amount_unit, detail=shard.key)
    total = shard.size if shard.compression == "none" else 0
    if shard.part is not None:
        total = shard.part.stop - shard.part.start
    return track_loop(total, "bytes", amount_unit=amount_unit, detail=shard.key)


def size_in_progress(item: Record | Rejected) -> int:
    """What a document counts in the progress of its shard."""
    if isinstance(item, Rejected):
        return item.length or 1
    return item.origin.length if isinstance(item.origin, Bytes) else 1


class ShardIO:
    """The documents of one shard, each to be written, rejected or excluded once, in order. See `open_shard_io`."""

    def __init__(
        self, shard: Shard, layout: Layout, folder: Path, on_error: OnError, reject_rows: Mapping[int, str]
    ) -> None:
        self.shard, self.folder, self._reject_rows = shard, folder, reject_rows
        self.read = self.num_written = self.edited = self.rejected = self.excluded = 0
        self._layout, self._on_error = layout, on_error
        self._stack = ExitStack()
        self._writer: LineWriter | ParquetWriter | None = None
        self._rejects: IO[str] | None = None
        self.progress = track_shard(shard, amount_unit="tokens")
        self._ids = self._stack.enter_context(closing(IdList()))

    def records(self) -> Iterator[Record]:
        """The documents that can be read; the others are rejected.

        Raises:
            InputError: a document cannot be read and `on_error` is "stop", or the file cannot be read at all.
        """
        for item in read_shard(self.shard, self._layout):
            self.read += 1
            if isinstance(item, Rejected):
                self._reject(item)
                continue
            if item.row in self._reject_rows:
                self.reject(item, self._reject_rows[item.row])
                continue
            if self._layout.id_field is not None:
                self._ids.add(item.id, item.row)
            yield item

    def write(self, record: Record, contents: Mapping[str, Content]) -> None:
        """Write `record` with `contents`, its new strings or ids by path. Those that differ are edits.

        Raises:
            InputError: the format cannot hold them; check with `format_error` first.
        """
        assert self._writer is not None
        edits = _differing(record, contents)
        if reason := self.format_error(record, contents):
            raise InputError(f"{record.where}: {reason}. Keep the edit within the document.")
        self._writer.write(record, edits)
        self.progress.advance(size_in_progress(record))
        self.num_written += 1
        self.edited += bool(edits)

    def format_error(self, record: Record, contents: Mapping[str, Content]) -> str:
        """Why the format cannot hold `contents` as this one document; "" if it can.

        A line of plain text holds no line break; a document of plain text neither begins nor ends with white space.
        """
        assert self._writer is not None
        return self._writer.format_error(record, _differing(record, contents))

    def exclude(self) -> None:
        """Count a document that is not written because its weight is 0."""
        self.excluded += 1

    def reject(self, record: Record, reason: str) -> None:
        """Write `record` to the rejects, with the reason.

        Raises:
            InputError: `on_error` is "stop".
        """
        raw = getattr(record.origin, "raw", None)
        if raw is None:
            raw = json.dumps(record.contents, ensure_ascii=False).encode("utf-8")
        self._reject(Rejected(record.row, reason, record.where, raw))

    def counts(self) -> dict[str, int]:
        """The numbers of documents read, written, edited and rejected, of those left out, and of files without any."""
        excluded = {"left_out": self.excluded} if self.excluded else {}
        excluded |= {} if self.read else {EMPTY: 1}
        totals = {"documents": self.read, "written": self.num_written, "edited": self.edited, "rejected": self.rejected}
        return {**totals, **excluded}

    def _reject(self, rejected: Rejected) -> None:
        if self._on_error == "stop":
            raise InputError(f"{rejected.where}: {rejected.reason}.")
        if self._rejects is None:
            path = self.file("rejects")
            self._rejects = self._stack.enter_context(path.open("w", encoding="utf-8", newline=""))
        self._rejects.write(reject_line(rejected))
        self.progress.advance(size_in_progress(rejected))
        self.rejected += 1

    def file(self, kind: str, ending: str = ".jsonl") -> Path:
        """The path of this shard's file of `kind`, such as `edits`. Creates its folder."""
        return _make_parents(self.folder / kind / f"{self.shard.key}{ending}")

    def _open(self, metadata: Mapping[str, str]) -> None:
        path = _make_parents(self.folder / self.shard.documents)
        if self.shard.kind == "parquet":
            try:
                self._writer = self._stack.enter_context(open_parquet_writer(self.shard, path, metadata))
            except TruncatedFileError:
                # `records` rejects it as one document, unless it has 0 bytes: then so has the output.
                if is_empty(self.shard.url, self.shard.name):
                    path.touch()
        else:
            file = self._stack.enter_context(open_output(path, self.shard.compression))
            self._writer = LineWriter(file, self.shard, self._layout)

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.finish()
        if self.read != self.num_written + self.rejected + self.excluded:
            raise AssertionError(
                f"{self.shard.key}: {self.read} documents were read, {self.num_written} written, "
                f"{self.rejected} rejected, {self.excluded} excluded"
            )
        if self._ids:
            self._ids.write(self.file("ids", ".ids"), self.shard.name)


@contextmanager
def open_shard_io(
    shard: Shard,
    layout: Layout,
    folder: Path,
    *,
    on_error: OnError = "stop",
    metadata: Mapping[str, str] | None = None,
    reject_rows: Mapping[int, str] | None = None,
) -> Iterator[ShardIO]:
    """Open `shard` for reading, and its output files below the local `folder`, which `finish_bundle` publishes.

    Args:
        shard: what to read.
        layout: how documents lie in it.
        folder: the root of the output files; paths below it are those of the finished output.
        on_error: whether the first document that cannot be read raises an error, or is rejected.
        metadata: pairs for the metadata of a parquet output.
        reject_rows: documents that are rejected whatever they are, each with the reason.

    Raises:
        InputError: as `records` does, and for two documents with one id.
    """
    shard_io = ShardIO(shard, layout, folder, on_error, reject_rows or {})
    with shard_io._stack:
        shard_io._open(metadata or {})
        yield shard_io
        shard_io._finish()


def _differing(record: Record, contents: Mapping[str, Content]) -> dict[str, Content]:
    before = record.contents
    return {path: content for path, content in contents.items() if content != before[path]}


def reject_line(rejected: Rejected) -> str:
    """`rejected` as a JSON line of a rejects file, with its bytes in base64."""
    raw = rejected.raw
    item: dict[str, Any] = {
        "row": rejected.row,
        "where": rejected.where,
        "reason": rejected.reason,
        "offset": rejected.offset,
        "length": rejected.length,
        "base64": None if raw is None else base64.b64encode(raw).decode("ascii"),
    }
    if rejected.torn:
        item["torn"] = True
    return json.dumps(item, ensure_ascii=False) + "\n"


def _make_parents(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# The checks look at the first documents of some shards.
_SHARDS = 8
_DOCUMENTS = 100
_DEFAULT = Layout()
_FIELD_KEYS = ("text_fields", "prompt_fields", "chat")


def write_ids(shard: Shard, layout: Layout, path: Path) -> None:
    """Write the sorted ids of the documents of `shard` that can be read to `path`, equal ones too.

    Raises:
        InputError: the file cannot be read at all.
    """
    with closing(IdList()) as ids:
        for item in read_shard(shard, layout):
            if isinstance(item, Record):
                ids.add(item.id, item.row)
        ids.write_all(path)


def check_layout_has_effect(layout: Layout, shards: Sequence[Shard], *, row_groups: int | None = None) -> None:
    """Check that `row_groups` and the keys of `layout` that differ from their defaults have an effect on these shards.

    Raises:
        ConfigError: `document_separator` without plain text, fields of texts or turns with nothing else, `token_field`
            with plain text, an `id_field` that none of the first documents has, or `row_groups` without parquet.
        InputError: a file cannot be read at all.
    """
    if row_groups is not None and not any(shard.kind == "parquet" for shard in shards):
        raise ConfigError(f"row_groups: {row_groups}, but no input file is parquet. Remove the key.")
    if layout.document_separator != _DEFAULT.document_separator and not any(shard.kind == "txt" for shard in shards):
        raise ConfigError(
            f"layout.document_separator: {layout.document_separator!r} is for plain text, but no input file is "
            ".txt. Remove the key."
        )
    idle = [key for key in _FIELD_KEYS if getattr(layout, key) != getattr(_DEFAULT, key)]
    if idle and all(shard.kind == "txt" for shard in shards):
        raise ConfigError(f"layout.{idle[0]}: all input is plain text, which has no fields. Remove the key.")
    if layout.token_field and (texts := [shard.name for shard in shards if shard.kind == "txt"]):
        raise ConfigError(
            f"layout.token_field: {texts[0]} is plain text and has no field. Give jsonl or parquet, or no token_field."
        )
    if layout.id_field in (None, _DEFAULT.id_field):
        return
    read = 0
    for shard, item in _first_records(layout, shards):
        read += 1
        if item.id != f"{shard.name}:{item.row}":
            return
    if read:
        raise ConfigError(
            f"layout.id_field: none of the first {read} documents has the field {layout.id_field!r}. Name the field "
            "that holds the id, or leave it out."
        )


def check_field_exists(key: str, field: str, layout: Layout, shards: Sequence[Shard]) -> None:
    """Check that one of the first documents of these shards has the `field` that the option `key` names.

    Raises:
        ConfigError: none has it, or all are plain text.
        InputError: a file cannot be read at all.
    """
    read = 0
    for _, item in _first_records(layout, shards, field):
        read += 1
        if item.extra is not None:
            return
    if read:
        raise ConfigError(
            f"{key}: none of the first {read} documents has the field {field!r}. Name one that they have."
        )


def _first_records(layout: Layout, shards: Sequence[Shard], extra: str | None = None) -> Iterator[tuple[Shard, Record]]:
    """The first documents of some shards that can be read."""
    for number in range(min(_SHARDS, len(shards))):
        shard = shards[number * len(shards) // min(_SHARDS, len(shards))]
        for item in islice(read_shard(shard, layout, extra), _DOCUMENTS):
            if isinstance(item, Record):
                yield shard, item
