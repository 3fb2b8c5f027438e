"""Layers of overrides, and trees of plain values checked against a model."""

import difflib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError

from tailkeep.config.settings import Settings
from tailkeep.config.yaml_text import Tree, drops_text, parse_yaml, read_yaml
from tailkeep.errors import ConfigError
from tailkeep.sanitize import redact, redact_tree, visible

S = TypeVar("S", bound=Settings)

_LONGEST_VALUE = 200
_LONGEST_RETURNED = 50
_OF_SEVERAL_KEYS = ("value_error", "assertion_error")
_KEY = r'\s*(?:"[^"]+"\s*|[^\s".=][^".=]*)'
_ASSIGNMENT = re.compile(rf"({_KEY}(?:\.{_KEY})*)=(.*)", re.DOTALL)


# Layers of a configuration, laid over each other. Rule: the later one wins, mapping by mapping.


def parse_assignments(assignments: Sequence[str]) -> Tree:
    """`["a.b=1", "a.c=[x]"]` as `{"a": {"b": 1, "c": ["x"]}}`; values are YAML, and the last of two wins.

    A key that holds a dot stands in double quotes: `arms."cut-0.9".loss=...`.

    Raises:
        ConfigError: an assignment has no `=` or an empty key, its value is not YAML, or is text that YAML would drop
            unless it stood in quotes: a blank, or what follows a `#`.
    """
    tree: Tree = {}
    for assignment in assignments:
        match = _ASSIGNMENT.fullmatch(assignment)
        if match is None:
            raise ConfigError(f"cannot read the override {redact(assignment)!r}. Write it as key.subkey=value.")
        path, value = match.groups()
        keys = [key.strip().strip('"') for key in re.findall(_KEY, path)]
        node: Any = parse_yaml(value, source=f"--set {dotted(keys)}")
        if drops_text(value):
            quoted = redact(f"{dotted(keys)}={json.dumps(value, ensure_ascii=False)}")
            raise ConfigError(
                f"--set {dotted(keys)}: YAML would drop {'a comment' if '#' in value else 'all'} of "
                f"{redact(value)!r}. Put a text in quotes: --set {shlex.quote(quoted)}"
            )
        for key in reversed(keys):
            node = {key: node}
        tree = merge(tree, node)
    return tree


def dotted(keys: Iterable[str]) -> str:
    """`keys` as the path that `parse_assignments` reads: `a."b.c".d`."""
    return ".".join(f'"{key}"' if "." in key or "=" in key else key for key in keys)


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> Tree:
    """`base` with `override` laid over it, mapping by mapping; neither is changed.

    A mapping below the top that names another kind (its `name` differs) replaces the old one whole, since the old
    one's keys belong to another kind: `{name: focal, exponent: 2}` never leaks into `{name: truncated}`. A mapping
    without a `name` may be of any kind, so the keys of both count: where a default names the kind, write it in first.
    """
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not _is_other_kind(old, value):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _is_other_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "name" in new and "name" in old and new["name"] != old["name"]


def load_tree(
    source: Path | Mapping[str, Any] | None, *, overrides: Sequence[str], options: Mapping[str, Any] | None
) -> tuple[Tree, str]:
    """The tree in a YAML file or a mapping, with overrides and options on top, and the name of `source` for errors.

    Args:
        source: the file or the mapping; an empty tree if None.
        overrides: `key.subkey=value`, see `parse_assignments`.
        options: a tree with precedence over both, such as the options of the command line.

    Raises:
        ConfigError: an override cannot be read.
        InputError: the file cannot be read.
    """
    tree = read_yaml(source) if isinstance(source, Path) else source or {}
    name = str(source) if isinstance(source, Path) else "config"
    return merge(merge(tree, parse_assignments(overrides)), options or {}), name


# Trees checked against a model. Rule: a fault names the key that the user wrote.


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
    """The keys of `location` as the user wrote them, and the annotation of what stands there.

    pydantic puts the label of a union's member into a location (`data.text.path`); walking the model along it tells
    labels from keys, and also which keys would have been known there.
    """
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
