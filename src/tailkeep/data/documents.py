"""Documents from a file: UTF-8 text split at a separator, or one JSON object per line.

Rule: a document is never empty and has no white space around it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
    """The documents of the file at `path`, in its order.

    A `.jsonl` file is read as one JSON object per line with the document under `field`, whatever the separator; any
    other file as text. White space around a document is stripped and empty documents are dropped.

    Raises:
        InputError: the file is missing, is not UTF-8, holds no document, or has a line that is no such object.
    """
    return [record.text for record in read_records(path, separator=separator, field=field)]


def read_records(path: Path, *, separator: Separator = "line", field: str = "text") -> list[TextRecord]:
    """As `read_documents`, each document with the line in which it begins.

    Raises:
        InputError: as there.
    """
    text = read_text(path)
    parts = _json_fields(text, field, path) if path.suffix == ".jsonl" else _split(text, separator)
    records = [TextRecord(part.strip(), line=line) for line, part in parts if part.strip()]
    if not records:
        raise InputError(f"{path} holds no document: {len(text)} characters, all white space. Give a file with text.")
    return records


def read_prompted(path: Path, *, prompt_field: str, field: str = "text") -> list[TextRecord]:
    """The lines of a `.jsonl` file of which neither text nor prompt is empty, as `read_records` reads a field.

    Raises:
        InputError: as there.
    """
    content = read_text(path)
    prompts, texts = (_json_fields(content, name, path) for name in (prompt_field, field))
    pairs = [(line, text.strip(), prompt.strip()) for (line, text), (_, prompt) in zip(texts, prompts, strict=True)]
    records = [TextRecord(text, prompt, line) for line, text, prompt in pairs if text and prompt]
    if not records:
        raise InputError(f"{path} holds no record with both {prompt_field!r} and {field!r}. Give at least one.")
    return records


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, without a byte order mark and with `\\n` line breaks.

    Raises:
        InputError: the file is missing or is not UTF-8; the message names the byte and the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. Give the path of a text file.") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The error's offset starts after a byte order mark, the file's before it.
        start = error.start + len(content) - len(error.object)
        line = content.count(b"\n", 0, start) + 1
        raise InputError(
            f"{path}: not UTF-8: byte 0x{content[start]:02x} at offset {start}, line {line}. Save the file as UTF-8."
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _split(text: str, separator: Separator) -> Iterator[tuple[int, str]]:
    """The parts of `text`, blank ones too, each with the line of its first character that is not white space."""
    match separator:
        case "":
            raise InputError("the separator is empty. Give file, line, blank-line or the text between two documents.")
        case "file":
            parts, between = [text], ""
        case "line":
            # Only at line breaks: str.splitlines would also split at form feeds and U+2028.
            parts, between = text.split("\n"), "\n"
        case "blank-line":
            parts, between = _paragraphs(text), ""
        case _:
            parts, between = text.split(separator), separator
    line = 0
    for part in parts:
        yield line + part[: len(part) - len(part.lstrip())].count("\n"), part
        line += part.count("\n") + between.count("\n")


def _paragraphs(text: str) -> list[str]:
    """Runs of nonblank lines, and the runs of blank lines between them."""
    paragraphs = [""]
    in_paragraph = False
    for line in text.split("\n"):
        if bool(line.strip()) == in_paragraph:
            paragraphs[-1] += line + "\n"
        else:
            paragraphs.append(line + "\n")
            in_paragraph = not in_paragraph
    return paragraphs


def _json_fields(text: str, field: str, path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n")):
        if line.strip():
            yield number, _json_field(line, field, f"{path}, line {number + 1}")


def _json_field(line: str, field: str, where: str) -> str:
    item = parse_json(line, where)
    if not isinstance(item, dict):
        raise InputError(f"{where}: expected an object, got {type(item).__name__}. Write {{{json.dumps(field)}: ...}}.")
    if field not in item:
        raise InputError(
            f"{where}: the field {field!r} is missing; the fields are {sorted(item)}. Name the field to read."
        )
    if not isinstance(item[field], str):
        raise InputError(f"{where}: {field!r} is of type {type(item[field]).__name__}. Give text.")
    return check_unicode(item[field], where)


def parse_json(text: str, where: str, advice: str = "Write one object per line.") -> Any:
    """`text` as JSON; `where` is its location for error messages.

    Raises:
        InputError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}). {advice}") from None


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
