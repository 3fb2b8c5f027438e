"""Documents as text, of single files and of the shards of a corpus: every format and compression that `edit` knows.

Rules: a document is never empty and has no white space around it. The text of a record is its text fields, joined by
line breaks; its source is the value of a field, of a URL its host, or its file. What cannot be read stops the work or
is rejected.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import urlsplit

from tailkeep.data.corpus import (
    EMPTY,
    Layout,
    OnError,
    Rejected,
    Shard,
    find_shards,
    name_in_side,
    read_objects,
    read_shard,
    reject_line,
    size_in_progress,
    track_shard,
)
from tailkeep.data.counters import ShardDocument
from tailkeep.errors import InputError

Separator = Literal["file", "line", "blank-line"] | str
"""What separates documents: nothing (the file is one document), a line break, an empty line, or any other text."""


@dataclass(frozen=True)
class TextRecord:
    """A document. A `prompt` before its `text` stands on its own lines and is context, not a training target.

    `line` is the 0-based line of the file in which the document begins, None without a file.
    """

    text: str
    prompt: str = ""
    line: int | None = None

    @property
    def text_start(self) -> int:
        """Where in `full_text` the text begins."""
        return len(self.prompt) + 1 if self.prompt else 0

    @property
    def full_text(self) -> str:
        """Prompt and text together."""
        return f"{self.prompt}\n{self.text}" if self.prompt else self.text


def read_documents(path: Path, *, separator: Separator = "line", field: str = "text") -> list[str]:
    """The documents of the file or folder at `path`, in its order.

    Plain text is split at `separator`; a record of any other format is the document under `field`. White space around a
    document is stripped and empty documents are dropped.

    Raises:
        InputError: the file is missing, is of no known format or not UTF-8, holds no document, or has one that cannot
            be read.
    """
    return [record.text for record in read_records(path, separator=separator, field=field)]


def read_records(path: Path, *, separator: Separator = "line", field: str = "text") -> list[TextRecord]:
    """As `read_documents`, each document with the line in which it begins.

    Raises:
        InputError: as there.
    """
    if not separator:
        raise InputError("the separator is empty. Give file, line, blank-line or the text between two documents.")
    records = [record for record in _records(path, _layout(separator, field)) if record.text]
    if not records:
        raise InputError(f"{path} holds no document, or only white space. Give a file with text.")
    return records


def read_prompted(path: Path, *, prompt_field: str, field: str = "text") -> list[TextRecord]:
    """The records at `path` of which neither text nor prompt is empty, as `read_records` reads a field.

    Raises:
        InputError: as there.
    """
    layout = _layout("line", field).model_copy(update={"prompt_fields": (prompt_field,)})
    records = [record for record in _records(path, layout) if record.text and record.prompt]
    if not records:
        raise InputError(f"{path} holds no record with both {prompt_field!r} and {field!r}. Give at least one.")
    return records


def read_values(path: Path) -> Iterator[tuple[str, Any]]:
    """The values of the file at `path`, objects as a rule, each with its place for error messages.

    Raises:
        InputError: it cannot be read, is of no known format, or a value in it is none.
    """
    for shard in find_shards(path):
        yield from read_objects(shard, Layout())


_LARGEST = 1 << 40  # a laboratory holds its text in memory anyway


def _layout(separator: str, field: str) -> Layout:
    return Layout(text_fields=(field,), id_field=None, document_separator=separator, max_document_bytes=_LARGEST)


def _records(path: Path, layout: Layout) -> Iterator[TextRecord]:
    shards = find_shards(path, layout)
    offset = 0
    for shard in shards:
        number = offset - 1
        for item in read_shard(shard, layout):
            if isinstance(item, Rejected):
                raise InputError(f"{shard.url.removesuffix(shard.name)}{item.where}: {item.reason}.")
            prompts = [_plain(field.text) for field in item.fields if not field.editable]
            texts = [_plain(field.text) for field in item.fields if field.editable]
            number = offset + item.row
            # Over several files, as in questions about them, a place is the number of the document.
            line = item.line - 1 if item.line is not None and len(shards) == 1 else number
            yield TextRecord("\n".join(texts).strip(), "\n".join(prompts).strip(), line)
        offset = number + 1


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_unicode(text: str, where: str) -> str:
    """Return `text` if it can be encoded: JSON can hold a lone surrogate such as `\\ud83d`, which no tokenizer accepts.

    Raises:
        InputError: it cannot; the message starts with `where`.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: half a surrogate pair at character {error.start}. Repair the text.") from None
    return text


def text_of(item: Mapping[str, Any], key: str, where: str) -> str:
    """The text of `item` under `key` without white space around it, which may leave nothing.

    Raises:
        InputError: there is none, or it cannot be encoded; the message starts with `where`.
    """
    if key not in item:
        raise InputError(f"{where}: the key {key!r} is missing in {sorted(item)}. Add it.")
    value = item[key]
    if not isinstance(value, str):
        raise InputError(f"{where}: {key!r} is {value!r}. Give text.")
    return check_unicode(value, f"{where}, {key!r}").strip()


FILE = "file"
"""What names the file of a document as its source, instead of a field."""

NO_SOURCE = "(none)"
_MAX_SOURCE = 200


class DocumentReader:
    """Reads the documents of `shards`, whose names begin with their side, and whose source is in the field `by`.

    `read` and `rejected` count them, one number for each shard.
    """

    def __init__(
        self, shards: Sequence[Shard], layout: Layout, folder: Path, on_error: OnError, *, by: str | None = None
    ) -> None:
        self._shards, self._layout, self._folder, self._on_error = shards, layout, folder, on_error
        self._by = by
        self.read, self.rejected = [0] * len(shards), [0] * len(shards)

    def documents(self) -> Iterator[ShardDocument]:
        """Yield the documents, shard by shard, each file under the name it has in its input.

        Raises:
            InputError: a document cannot be read and `on_error` is "stop", or a file cannot be read.
        """
        number = 0
        for file_number, shard in enumerate(self._shards):
            shard = replace(shard, name=name_in_side(shard.name))
            progress = track_shard(shard)
            for item in read_shard(shard, self._layout, None if self._by == FILE else self._by):
                self.read[file_number] += 1
                if isinstance(item, Rejected):
                    self._reject(item, shard, file_number)
                else:
                    text = "\n".join(item.texts.values())
                    source = "" if self._by is None else shard.name if self._by == FILE else name_source(item.extra)
                    raw = text.encode("utf-8")
                    yield ShardDocument(number, item.row, item.id, text, raw, source, shard.name, file_number)
                    number += 1
                progress.advance(size_in_progress(item))

    def counts(self) -> list[dict[str, int]]:
        """For each shard the numbers of documents and rejects, and whether it has none."""
        return [
            {"documents": read, "rejected": rejected, **({} if read else {EMPTY: 1})}
            for read, rejected in zip(self.read, self.rejected, strict=True)
        ]

    def _reject(self, rejected: Rejected, shard: Shard, file_number: int) -> None:
        if self._on_error == "stop":
            # Files of several sides may be called the same.
            raise InputError(f"{shard.folder}{rejected.where}: {rejected.reason}.")
        self.rejected[file_number] += 1
        path = self._folder / "rejects" / f"{self._shards[file_number].key}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(reject_line(rejected))


def name_source(value: Any) -> str:
    """The source that the `value` of a field names: of a URL the host, of a list or an object nothing."""
    if isinstance(value, bool | int | float):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        return NO_SOURCE
    text = value.strip()
    if "://" in text:
        with suppress(ValueError):  # no URL after all
            text = urlsplit(text).hostname or text
    # Half a surrogate pair cannot be written.
    return text[:_MAX_SOURCE].encode("utf-8", "replace").decode("utf-8")


class RejectsFile:
    """Takes documents that cannot be read; `path` is their file, which exists only if there are any.

    `torn` are the places from which on a file is lost.
    """

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path, self.count, self.first = path, 0, ""
        self.torn: list[str] = []
        self._stack = stack
        self._file: IO[str] | None = None
        path.unlink(missing_ok=True)

    def __call__(self, rejected: Rejected) -> None:
        """Write `rejected`, with its bytes and the reason."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._stack.enter_context(self.path.open("w", encoding="utf-8", newline=""))
        self._file.write(reject_line(rejected))
        self.count += 1
        self.first = self.first or f"{rejected.where}: {rejected.reason}"
        self.torn += [rejected.where] if rejected.torn else []


@contextmanager
def open_rejects(path: Path) -> Iterator[RejectsFile]:
    """The file of rejects at `path`."""
    with ExitStack() as stack:
        yield RejectsFile(path, stack)
