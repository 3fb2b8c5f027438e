"""Where in a record the documents are, and what a record is.

Rule: a field is named by its path, `a.b` for {"a": {"b": ...}}; a list is entered by the number of the element.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, model_validator

from tailkeep.config import Settings

MEGABYTE = 1 << 20

Content = str | tuple[int, ...]
"""What can be exchanged in a record: a text, or a list of token ids."""


_ID_BYTES = 4


class UnusableRecordError(ValueError):
    """A record that does not have what the layout asks for; the message says what."""


class Chat(Settings):
    """A record that is a list of turns. Turns of the `editable` roles are text to edit, all others are context."""

    turns: str = "messages"
    role: str = "role"
    content: str = "content"
    editable: tuple[str, ...] = ("assistant",)


class Layout(Settings):
    """How documents lie in files.

    Attributes:
        text_fields: paths of the strings to edit, of jsonl and parquet.
        prompt_fields: paths of strings that stand before them and are never edited, as in instruction records.
        chat: read records as lists of turns instead.
        token_field: path of the one list of token ids that is the document, instead of text.
        tokenizer: of which tokenizer these are, as its folder or its hash. Files that tell themselves, as the token
            ids of an edit do, need it not.
        id_field: path of the document's id; a record without it is called `<shard name>:<row>`, as all are with None.
        document: what stands between two documents of plain text: file, line, blank-line or the text given.
        max_document_bytes: a longer document, or line of jsonl, is rejected without being held.
    """

    text_fields: tuple[str, ...] = Field(("text",), min_length=1)
    prompt_fields: tuple[str, ...] = ()
    chat: Chat | None = None
    token_field: str | None = Field(None, min_length=1)
    tokenizer: str | None = Field(None, min_length=1)
    id_field: str | None = "id"
    document: str = Field("line", min_length=1)
    max_document_bytes: int = Field(64 * MEGABYTE, ge=1)

    @model_validator(mode="after")
    def _refuse_what_does_nothing(self) -> "Layout":
        if self.chat and {"text_fields", "prompt_fields"} & self.model_fields_set:
            raise ValueError("text_fields and prompt_fields do nothing beside chat. Give one or the other.")
        if self.token_field and (self.chat or {"text_fields", "prompt_fields"} & self.model_fields_set):
            raise ValueError(
                "text_fields, prompt_fields and chat do nothing beside token_field. Give one or the other."
            )
        if self.tokenizer and not self.token_field:
            raise ValueError("tokenizer does nothing without token_field. Name the field with the token ids.")
        fields = (*self.prompt_fields, *self.text_fields)
        if len(set(fields)) < len(fields):
            raise ValueError(f"a field is named twice: {list(fields)}. Name each once.")
        return self


@dataclass(frozen=True, slots=True)
class TextField:
    """One string of a record and the path it lies at; `role` is that of a chat's turn, else empty.

    Or one list of token `ids`, then without text: `aligned` are the fields beside it that are lists as long, such as a
    mask, and `repeats` those of them that hold the same ids where they hold any, such as labels.
    """

    path: str
    text: str
    editable: bool = True
    role: str = ""
    ids: tuple[int, ...] | None = None
    aligned: tuple[str, ...] = ()
    repeats: tuple[str, ...] = ()

    @property
    def content(self) -> Content:
        """The ids if it is a list of them, else the text."""
        return self.text if self.ids is None else self.ids

    @property
    def bytes(self) -> int:
        """How much it holds: of UTF-8, or of ids of 4 bytes."""
        return len(self.text.encode("utf-8")) if self.ids is None else _ID_BYTES * len(self.ids)


@dataclass(frozen=True, slots=True)
class Record:
    """One document: its strings in reading order, prompts before what they prompt. `row` counts from 0 in its file.

    Plain text has one part, its path "". `origin` is what the format needs to write the record back.
    """

    id: str
    row: int
    where: str
    parts: tuple[TextField, ...]
    origin: Any = field(repr=False, compare=False, default=None)

    @property
    def texts(self) -> dict[str, str]:
        """The editable strings by their paths."""
        return {part.path: part.text for part in self.parts if part.editable and part.ids is None}

    @property
    def tokens(self) -> TextField | None:
        """The part that is a list of token ids, if the document is one."""
        return next((part for part in self.parts if part.ids is not None), None)

    @property
    def contents(self) -> dict[str, Content]:
        """The editable strings and lists of ids by their paths."""
        return {part.path: part.content for part in self.parts if part.editable}


@dataclass(frozen=True, slots=True)
class Rejected:
    """What could not be read as a document, or was too long to be held.

    `raw` is its original bytes, None if they were not held; of a row of parquet, the fields that were read, as JSON.
    `offset` and `length` say where in the decompressed file it lies. `torn` says that the file cannot be read from here
    on, so that all behind is lost.
    """

    row: int
    reason: str
    where: str
    raw: bytes | None = field(repr=False, default=None)
    offset: int | None = None
    length: int | None = None
    torn: bool = False


def fields_of(tree: Mapping[str, Any], layout: Layout) -> tuple[TextField, ...]:
    """The strings of a record, or its token ids.

    Raises:
        UnfitError: one is missing, is no text, holds half of a character, or is no list of ids.
    """
    if layout.token_field:
        return (_ids(tree, layout.token_field),)
    if layout.chat:
        return tuple(_turns(tree, layout.chat))
    prompts = [TextField(path, _text(tree, path), editable=False) for path in layout.prompt_fields]
    return (*prompts, *(TextField(path, _text(tree, path)) for path in layout.text_fields))


def id_of(tree: Mapping[str, Any], layout: Layout, otherwise: str) -> str:
    """The id in the record, or `otherwise` if it has none.

    Raises:
        UnfitError: it is neither text nor an integer, or is empty.
    """
    if layout.id_field is None:
        return otherwise
    try:
        value = lookup(tree, layout.id_field)
    except UnusableRecordError:
        return otherwise
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UnusableRecordError(f"the id in {layout.id_field!r} is {_named(value)}. Give text or an integer")
    return whole_text(str(value), layout.id_field)


def lookup(tree: Any, path: str) -> Any:
    """The value at `path`.

    Raises:
        UnfitError: there is none.
    """
    value = tree
    for key in path.split("."):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            available = f"there are {sorted(value)[:20]}" if isinstance(value, Mapping) else f"there is {_named(value)}"
            raise UnusableRecordError(f"the field {path!r} is missing; {available}. Name the field to read")
    return value


def whole_text(text: str, path: str) -> str:
    """`text`, unless it holds half of a character, as JSON can spell one: `\\ud83d`.

    Raises:
        UnfitError: it does.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnusableRecordError(
            f"half a surrogate pair at character {error.start} of {path!r}. Repair the text"
        ) from None
    return text


def _text(tree: Mapping[str, Any], path: str) -> str:
    value = lookup(tree, path)
    if not isinstance(value, str):
        raise UnusableRecordError(f"the field {path!r} is {_named(value)}. Give text")
    return whole_text(value, path)


def _ids(tree: Mapping[str, Any], path: str) -> TextField:
    value = lookup(tree, path)
    if not isinstance(value, list):
        raise UnusableRecordError(f"the field {path!r} is {_named(value)}. Give a list of token ids")
    for number, item in enumerate(value):
        if type(item) is not int:
            raise UnusableRecordError(f"number {number} of {path!r} is {_named(item)}. Give a list of token ids")
        if item < 0:
            raise UnusableRecordError(f"number {number} of {path!r} is {item}. Token ids are >= 0")
    beside = dict(_beside(tree, path, len(value)))
    repeats = [name for name, other in beside.items() if _repeats(other, value)]
    return TextField(path, "", ids=tuple(value), aligned=tuple(beside), repeats=tuple(repeats))


def _beside(tree: Mapping[str, Any], path: str, length: int) -> Iterator[tuple[str, list[Any]]]:
    """The other lists of so many elements in the object that holds the list at `path`."""
    parent, _, key = path.rpartition(".")
    fields = lookup(tree, parent) if parent else tree
    for name, other in fields.items() if isinstance(fields, Mapping) else ():
        if name != key and isinstance(other, list) and len(other) == length:
            yield name, other


def _repeats(other: list[Any], ids: list[int]) -> bool:
    """Whether `other` holds `ids`, or less than 0 where it is to be ignored."""
    try:
        pairs = [(one, id_) for one, id_ in zip(other, ids, strict=True) if one >= 0]
    except TypeError:
        return False
    return bool(pairs) and all(one == id_ for one, id_ in pairs)


def _turns(tree: Mapping[str, Any], chat: Chat) -> list[TextField]:
    turns = lookup(tree, chat.turns)
    if not isinstance(turns, list):
        raise UnusableRecordError(f"the field {chat.turns!r} is {_named(turns)}. Give a list of turns")
    parts = []
    for number, turn in enumerate(turns):
        role = _text(tree, f"{chat.turns}.{number}.{chat.role}")
        # A turn that only calls a tool has no content, or null.
        if turn.get(chat.content) is not None:
            path = f"{chat.turns}.{number}.{chat.content}"
            parts.append(TextField(path, _text(tree, path), editable=role in chat.editable, role=role))
    return parts


def _named(value: Any) -> str:
    return "empty" if value == "" else f"of type {type(value).__name__}"
