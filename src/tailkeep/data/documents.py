"""Documents of files, as `tailkeep edit` reads them: every format and compression that it knows.

Rule: a document is never empty and has no white space around it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tailkeep.data.corpus import Layout, Rejected, find_shards, read_objects, read_shard
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
    offset = number = 0
    for shard in shards:
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
