"""The layout of a corpus, and the record: one document with its fields.

Rule: a path names a field, `a.b` for {"a": {"b": ...}}; the key of a list element is its index.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, model_validator

from tailkeep.config import Settings
from tailkeep.data.corpus.io import Kind

MEGABYTE = 1 << 20

Content = str | tuple[int, ...]
"""The value of a field: a text, or a list of token ids."""


_ID_BYTES = 4


class UnusableRecordError(ValueError):
    """A record without what the layout names."""


class Chat(Settings):
    """The layout of a record with a list of turns. Turns of the `editable` roles are edited; the others are context.

    Attributes:
        turns: the field of a record that holds the list of turns.
        role: the field of a turn that says who speaks.
        content: the field of a turn that holds its text.
    """

    turns: str = "messages"
    role: str = "role"
    content: str = "content"
    editable: tuple[str, ...] = ("assistant",)


class Layout(Settings):
    """How documents lie in files.

    Attributes:
        format: what all files are, whatever their names end with; by default each is what its ending says.
        ignore: patterns of names or paths of files that are left out of a folder or a glob, such as `*.npy`.
        text_fields: paths of the texts of a document, in files with fields: all formats but plain text. A list of
            texts, or of parts `{type: text, text: ...}` as in OpenAI's messages, is several texts.
        prompt_fields: paths of strings before them that are never edited, as in instruction records.
        chat: read records as lists of turns instead.
        token_field: path of a list of token ids that is the document, instead of text.
        tokenizer: the folder or hash of the tokenizer of these ids. Files that record it themselves, such as the token
            ids of an edit, do not need it.
        id_field: path of the document's id. A record without it has the id `<shard name>:<row>`, as have all if None.
        document_separator: what ends a document of plain text: line, file, blank-line or a string.
        max_document_bytes: a longer document, or line of jsonl, is rejected and never held in memory.
    """

    format: Kind | None = None
    ignore: tuple[str, ...] = ()
    text_fields: tuple[str, ...] = Field(("text",), min_length=1)
    prompt_fields: tuple[str, ...] = ()
    chat: Chat | None = None
    token_field: str | None = Field(None, min_length=1)
    tokenizer: str | None = Field(None, min_length=1)
    id_field: str | None = "id"
    document_separator: str = Field("line", min_length=1)
    max_document_bytes: int = Field(64 * MEGABYTE, ge=1)

    @model_validator(mode="after")
    def _check_has_effect(self) -> "Layout":
        if self.chat and {"text_fields", "prompt_fields"} & self.model_fields_set:
            raise ValueError("text_fields and prompt_fields have no effect with chat. Give one or the other.")
        if self.token_field and (self.chat or {"text_fields", "prompt_fields"} & self.model_fields_set):
            raise ValueError(
                "text_fields, prompt_fields and chat have no effect with token_field. Give one or the other."
            )
        if self.tokenizer and not self.token_field:
            raise ValueError("tokenizer has no effect without token_field. Name the field with the token ids.")
        fields = (*self.prompt_fields, *self.text_fields)
        if len(set(fields)) < len(fields):
            raise ValueError(f"a field is named twice: {list(fields)}. Name each once.")
        return self


@dataclass(frozen=True, slots=True)
class TextField:
    """One string of a record, at `path`; `role` is the role of a turn of a chat, else empty.

    Or one list of token `ids`, with an empty text. `aligned` names the sibling lists of the same length, such as a
    mask; `repeats` names those of them that hold the same ids where they are >= 0, such as labels.
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
        """The ids if it is a list of ids, else the text."""
        return self.text if self.ids is None else self.ids

    @property
    def bytes(self) -> int:
        """The size in bytes: of the text in UTF-8, or of ids of 4 bytes."""
        return len(self.text.encode("utf-8")) if self.ids is None else _ID_BYTES * len(self.ids)


@dataclass(frozen=True, slots=True)
class Record:
    """One document: its fields in reading order, prompts before their answers. `row` counts from 0 in its file.

    Plain text has one field, with the path "". `origin` is what the writer of the format needs. `line` is the line of
    the file, from 1, in which the document begins; None in a format without lines. `extra` is the value of the field
    that a reader asked for beside those of the layout; None if the record has none.
    """

    id: str
    row: int
    where: str
    fields: tuple[TextField, ...]
    origin: Any = field(repr=False, compare=False, default=None)
    line: int | None = None
    extra: Any = field(repr=False, compare=False, default=None)

    @property
    def texts(self) -> dict[str, str]:
        """The editable strings by path."""
        return {field.path: field.text for field in self.fields if field.editable and field.ids is None}

    @property
    def tokens(self) -> TextField | None:
        """The field of token ids, if the document is one."""
        return next((field for field in self.fields if field.ids is not None), None)

    @property
    def contents(self) -> dict[str, Content]:
        """The editable strings and lists of ids by path."""
        return {field.path: field.content for field in self.fields if field.editable}


@dataclass(frozen=True, slots=True)
class Rejected:
    """What cannot be read as a document, or is too long.

    `raw` is its original bytes, None if they were not held; of a row of parquet, the fields that were read, as JSON.
    `offset` and `length` are its position in the decompressed file. With `torn`, the rest of the file is lost too.
    """

    row: int
    reason: str
    where: str
    raw: bytes | None = field(repr=False, default=None)
    offset: int | None = None
    length: int | None = None
    torn: bool = False


def fields_of(tree: Mapping[str, Any], layout: Layout) -> tuple[TextField, ...]:
    """The fields of a record: its strings, or its token ids.

    Raises:
        UnusableRecordError: one is missing, is no text, has half a surrogate pair, or is no list of ids.
    """
    if layout.token_field:
        return (_ids(tree, layout.token_field),)
    if layout.chat:
        return tuple(_turns(tree, layout.chat))
    prompts = [field for path in layout.prompt_fields for field in _texts(tree, path, editable=False)]
    return (*prompts, *(field for path in layout.text_fields for field in _texts(tree, path)))


def id_of(tree: Mapping[str, Any], layout: Layout, default: str) -> str:
    """The id in the record, or `default` if it has none.

    Raises:
        UnusableRecordError: it is neither text nor an integer, or is empty.
    """
    if layout.id_field is None:
        return default
    try:
        value = lookup(tree, layout.id_field)
    except UnusableRecordError:
        return default
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UnusableRecordError(f"the id in {layout.id_field!r} is {_describe(value)}. Give text or an integer")
    return check_text(str(value), layout.id_field)


def lookup(tree: Any, path: str) -> Any:
    """The value at `path`.

    Raises:
        UnusableRecordError: there is none.
    """
    value = tree
    for key in path.split("."):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            available = (
                f"there are {sorted(value)[:20]}" if isinstance(value, Mapping) else f"its parent is {_describe(value)}"
            )
            raise UnusableRecordError(
                f"the field {path!r} is missing; {available}. Name the field to read (--text-field)"
            )
    return value


def value_of(tree: Any, path: str | None) -> Any:
    """The value at `path`; None if there is none, or no path."""
    if path is None:
        return None
    try:
        return lookup(tree, path)
    except UnusableRecordError:
        return None


def check_text(text: str, path: str) -> str:
    """`text`, checked for half a surrogate pair, which JSON can contain: `\\ud83d`.

    Raises:
        UnusableRecordError: there is one.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnusableRecordError(
            f"half a surrogate pair at character {error.start} of {path!r}. Repair the text"
        ) from None
    return text


def _text(value: Any, path: str) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UnusableRecordError(f"{path!r} is not UTF-8 at byte {error.start}. Store it as UTF-8") from None
    if not isinstance(value, str):
        raise UnusableRecordError(f"the field {path!r} is {_describe(value)}. Give text")
    return check_text(value, path)


def _texts(tree: Mapping[str, Any], path: str, *, editable: bool = True, role: str = "") -> Iterator[TextField]:
    """The text at `path`, or those of the list there: texts, or the parts of a message that are text."""
    value = lookup(tree, path)
    if not isinstance(value, list):
        yield TextField(path, _text(value, path), editable=editable, role=role)
        return
    for number, item in enumerate(value):
        inner = f"{path}.{number}"
        if isinstance(item, Mapping) and "type" in item:
            # Parts of other types, such as an image, hold no text and stay as they are.
            if item["type"] == "text":
                inner += ".text"
                yield TextField(inner, _text(lookup(tree, inner), inner), editable=editable, role=role)
            continue
        yield TextField(inner, _text(item, inner), editable=editable, role=role)


def _ids(tree: Mapping[str, Any], path: str) -> TextField:
    value = lookup(tree, path)
    if not isinstance(value, list):
        raise UnusableRecordError(f"the field {path!r} is {_describe(value)}. Give a list of token ids")
    for number, item in enumerate(value):
        if type(item) is not int:
            raise UnusableRecordError(f"number {number} of {path!r} is {_describe(item)}. Give a list of token ids")
        if item < 0:
            raise UnusableRecordError(f"number {number} of {path!r} is {item}. Token ids are >= 0")
    siblings = dict(_sibling_lists(tree, path, len(value)))
    repeats = [name for name, other in siblings.items() if _repeats(other, value)]
    return TextField(path, "", ids=tuple(value), aligned=tuple(siblings), repeats=tuple(repeats))


def _sibling_lists(tree: Mapping[str, Any], path: str, length: int) -> Iterator[tuple[str, list[Any]]]:
    """The other lists of `length` elements in the object with the list at `path`."""
    parent, _, key = path.rpartition(".")
    fields = lookup(tree, parent) if parent else tree
    for name, other in fields.items() if isinstance(fields, Mapping) else ():
        if name != key and isinstance(other, list) and len(other) == length:
            yield name, other


def _repeats(other: list[Any], ids: list[int]) -> bool:
    """Whether `other` equals `ids` where it is >= 0; labels are below 0 where they are ignored."""
    try:
        pairs = [(one, id_) for one, id_ in zip(other, ids, strict=True) if one >= 0]
    except TypeError:
        return False
    return bool(pairs) and all(one == id_ for one, id_ in pairs)


def _turns(tree: Mapping[str, Any], chat: Chat) -> list[TextField]:
    turns = lookup(tree, chat.turns)
    if not isinstance(turns, list):
        raise UnusableRecordError(f"the field {chat.turns!r} is {_describe(turns)}. Give a list of turns")
    fields: list[TextField] = []
    for number, turn in enumerate(turns):
        role_path = f"{chat.turns}.{number}.{chat.role}"
        role = _text(lookup(tree, role_path), role_path)
        # A turn that only calls a tool has no content, or null.
        if turn.get(chat.content) is not None:
            path = f"{chat.turns}.{number}.{chat.content}"
            fields += _texts(tree, path, editable=role in chat.editable, role=role)
    return fields


def _describe(value: Any) -> str:
    return "empty" if value == "" else f"of type {type(value).__name__}"
