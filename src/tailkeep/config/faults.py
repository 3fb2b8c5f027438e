"""Trees of plain values, checked against a model. Rule: a fault names the key that the user wrote.

pydantic puts the label of a union's member into the path of a fault (`data.text.path`); walking the model along
that path tells labels from keys, and also which keys would have been known there.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError

from tailkeep.config.loader import dotted
from tailkeep.config.settings import Settings
from tailkeep.errors import ConfigError
from tailkeep.sanitize import redact, redact_tree, visible

S = TypeVar("S", bound=Settings)

_LONGEST_VALUE = 200
_LONGEST_RETURNED = 50
_OF_SEVERAL_KEYS = ("value_error", "assertion_error")


def validate(kind: type[S], tree: Mapping[str, Any], *, source: str, also_known: Iterable[str] = ()) -> S:
    """`tree` as a `kind`.

    Args:
        source: what a message names as the origin of `tree`.
        also_known: keys that the user may write at the top though `kind` has them elsewhere; they are suggested too.

    Raises:
        ConfigError: one line a fault, each with its key, the value received and what would be accepted.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        faults = [_explain(fault, kind, also_known) for fault in error.errors(include_url=False)]
        raise ConfigError("\n".join(visible(f"{source}: {fault}", newline=" ") for fault in faults)) from None


def _explain(fault: Mapping[str, Any], kind: type[Settings], also_known: Iterable[str]) -> str:
    path, annotation = _walk(kind, fault["loc"])
    key = dotted(path)
    context = fault.get("ctx", {})
    match fault["type"]:
        case "extra_forbidden":
            _, parent = _walk(kind, fault["loc"][:-1])
            known = _field_names(parent) | (set(also_known) if len(path) == 1 else set())
            return f"unknown key {key!r}.{suggest(path[-1], sorted(known))}"
        case "missing":
            return f"the key {key!r} is missing. Set it in the file, or with --set {key}=..."
        case "union_tag_not_found" | "union_tag_invalid":
            discriminator = str(context["discriminator"]).strip("'")
            kinds = [tag for kind in _settings_in(annotation) for name, tag in _tags(kind) if name == discriminator]
            if fault["type"] == "union_tag_not_found":
                return f"the key '{key}.{discriminator}' is missing; it says which kind this is. {_known(kinds)}"
            received = str(context["tag"])
            return f"{key}.{discriminator}: {received!r} is unknown.{suggest(received, kinds)}"
        case "literal_error" | "enum" if isinstance(fault["input"], str):
            choices = re.findall(r"'([^']*)'", str(context["expected"]))
            return f"{key}: {redact(fault['input'])!r} is unknown.{suggest(fault['input'], choices)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            message = "Input should be keys and values"
        case _:
            message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if fault["type"] in _OF_SEVERAL_KEYS and isinstance(fault["input"], Mapping | Settings):
        # Such a rule names the values it is about; all of them would bury its sentence.
        return f"{key}: {message}".removeprefix(": ").removesuffix(".") + "."
    return f"{key or 'config'}: {message} (received {_received(fault)})"


def _received(fault: Mapping[str, Any]) -> str:
    key = str(fault["loc"][-1]) if fault["loc"] else ""
    value = redact_tree({key: fault["input"]})[key]
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


def _walk(kind: type[Settings], location: Sequence[int | str]) -> tuple[list[str], Any]:
    """The keys of `location` as the user wrote them, and the annotation of what stands there."""
    annotation: Any = kind
    path: list[str] = []
    for part in location:
        annotation = _unwrap(annotation)
        if _is_union(annotation):
            annotation = next((member for member in get_args(annotation) if part in _labels(member)), Any)
            continue
        path.append(str(part))
        annotation = _below(annotation, part)
    return path, _unwrap(annotation)


def _below(annotation: Any, part: int | str) -> Any:
    if _is_settings(annotation):
        field = annotation.model_fields.get(part)
        return field.annotation if field else Any
    arguments = get_args(annotation)
    if not arguments:
        return Any
    return arguments[-1] if isinstance(part, str) else arguments[0]


def _unwrap(annotation: Any) -> Any:
    """Without `Annotated` and without `| None`: neither leaves a trace in a location."""
    if get_origin(annotation) is Annotated:
        return _unwrap(get_args(annotation)[0])
    if _is_union(annotation):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return _unwrap(members[0]) if len(members) == 1 else Union[tuple(members)]  # noqa: UP007  (built at run time)
    return annotation


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def _is_settings(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Settings)


def _settings_in(annotation: Any) -> Iterator[type[Settings]]:
    annotation = _unwrap(annotation)
    if _is_settings(annotation):
        yield annotation
    elif _is_union(annotation):
        for member in get_args(annotation):
            yield from _settings_in(member)


def _labels(member: Any) -> set[str]:
    """What pydantic may call a member of a union: its tag if the union has a discriminator, otherwise its type."""
    member = _unwrap(member)
    tags = {tag for _, tag in _tags(member)} if _is_settings(member) else set()
    return {*tags, str(getattr(member, "__name__", member))}


def _tags(kind: type[Settings]) -> Iterator[tuple[str, str]]:
    """The fields of `kind` that can only say one word, as a discriminator does, and that word."""
    for name, field in kind.model_fields.items():
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1:
            yield name, str(get_args(field.annotation)[0])


def _field_names(annotation: Any) -> set[str]:
    return {name for kind in _settings_in(annotation) for name in kind.model_fields}


def suggest(word: str, known: Sequence[str]) -> str:
    """`Did you mean 'x'?` if one of `known` is near `word`, otherwise a list of them; a blank comes first."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" {_known(known)}"


def describe(value: object) -> str:
    """The type of `value`, with the shape of an array or a number or text itself, in one short line for a message."""
    kind, shape = type(value).__name__, getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{kind} {tuple(shape)}"
    if not isinstance(value, bool | int | float | str):
        return kind
    text = repr(value)
    return f"{kind} {text if len(text) <= _LONGEST_RETURNED else text[:_LONGEST_RETURNED] + '...'}"


def _known(names: Sequence[str]) -> str:
    return f"Known: {', '.join(names)}." if names else "Remove it."
