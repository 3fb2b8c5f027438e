"""Documents from a file: UTF-8 text cut at a separator, or one JSON object a line.

Rule: a document is never empty and has no white space around it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tailkeep.errors import InputError

Separator = Literal["file", "line", "blank-line"] | str
"""What stands between two documents: nothing (the file is one), a line break, an empty line, or the text given."""


@dataclass(frozen=True)
class TextRecord:
    """A document; where a `prompt` stands before its `text`, it stands on lines of its own and is given, not learnt.

    `line` is the 0-based line of the file in which it begins, None where it is of no file that matters.
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
        """Prompt and text as one."""
        return f"{self.prompt}\n{self.text}" if self.prompt else self.text


def read_documents(path: Path, *, separator: Separator = "line", field: str = "text") -> list[str]:
    """The documents of the file at `path`, in its order.

    A name that ends in `.jsonl` is read as one JSON object a line, its document under `field`, whatever the separator;
    any other file as text. White space around a document is cut off and empty documents are dropped.

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
    pieces = _json_fields(text, field, path) if path.suffix == ".jsonl" else _cut(text, separator)
    records = [TextRecord(piece.strip(), line=line) for line, piece in pieces if piece.strip()]
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
        raise InputError(f"{path} holds no record with both {prompt_field!r} and {field!r}. Give some.")
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
        # The offset counts from behind a byte order mark, the file from before it.
        start = error.start + len(content) - len(error.object)
        line = content.count(b"\n", 0, start) + 1
        raise InputError(
            f"{path}: not UTF-8: byte 0x{content[start]:02x} at offset {start}, line {line}. Save the file as UTF-8."
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _cut(text: str, separator: Separator) -> Iterator[tuple[int, str]]:
    """The pieces of `text`, white ones too, each with the line of its first character that is not white space."""
    match separator:
        case "":
            raise InputError("the separator is empty. Give file, line, blank-line or the text that stands between.")
        case "file":
            pieces, between = [text], ""
        case "line":
            # Only at line breaks: str.splitlines would also cut at form feeds and U+2028.
            pieces, between = text.split("\n"), "\n"
        case "blank-line":
            pieces, between = _paragraphs(text), ""
        case _:
            pieces, between = text.split(separator), separator
    line = 0
    for piece in pieces:
        yield line + piece[: len(piece) - len(piece.lstrip())].count("\n"), piece
        line += piece.count("\n") + between.count("\n")


def _paragraphs(text: str) -> list[str]:
    """Runs of lines without an empty one between them; a line of white space is empty, and stands by itself."""
    paragraphs = [""]
    written = False
    for line in text.split("\n"):
        if bool(line.strip()) == written:
            paragraphs[-1] += line + "\n"
        else:
            paragraphs.append(line + "\n")
            written = not written
    return paragraphs


def _json_fields(text: str, field: str, path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n")):
        if line.strip():
            yield number, _json_field(line, field, f"{path}, line {number + 1}")


def _json_field(line: str, field: str, where: str) -> str:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}). Write one object a line.") from None
    if not isinstance(item, dict):
        raise InputError(
            f"{where}: expected an object, found {type(item).__name__}. Write {{{json.dumps(field)}: ...}}."
        )
    if field not in item:
        raise InputError(f"{where}: the field {field!r} is missing; there are {sorted(item)}. Name the field to read.")
    if not isinstance(item[field], str):
        raise InputError(f"{where}: {field!r} is of type {type(item[field]).__name__}. Give text.")
    return check_unicode(item[field], where)


def check_unicode(text: str, where: str) -> str:
    """`text`, unless it holds half of a character: JSON can spell one as `\\ud83d`, and no tokenizer takes it.

    Raises:
        InputError: it does; the message starts with `where`.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: half a surrogate pair at character {error.start}. Repair the text.") from None
    return text
