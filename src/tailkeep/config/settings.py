"""What a configuration is made of: frozen models, and paths whose content counts as input.

Rule: a key that a model does not know is refused, and so are a number that is not finite and a switch for a number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """A frozen set of choices that refuses keys it does not know, numbers that are not finite, and `true` for 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    # Of the whole model, since the field that tells a union's models apart can have no validator.
    @model_validator(mode="before")
    @classmethod
    def _refuse_switches(cls, values: Any) -> Any:
        for name in cls.model_fields if isinstance(values, Mapping) else ():
            if _holds_switch(values.get(name)):
                kinds = set(_kinds(cls.model_fields[name].annotation))
                if kinds & {int, float} and not kinds & {bool, Any, object}:
                    raise ValueError(f"{name} is {values[name]!r}, which is no number. Give a number")
        return values


def _holds_switch(value: Any) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, bool) or any(map(_holds_switch, parts))


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that `annotation` is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


@dataclass(frozen=True)
class Input:
    """Marks a path whose content, not its name, decides a result."""


InputPath = Annotated[Path, Input()]


def input_paths(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Path]]:
    """The dotted key and the value of each `InputPath` below `settings` that is given, in the order of the fields.

    Optional fields, unions, lists (`data.0`) and mappings (`data.train`) are entered; nothing is opened.
    """
    for name, field in type(settings).model_fields.items():
        marked = any(isinstance(mark, Input) for mark in field.metadata) or _is_marked(field.annotation)
        yield from _paths_in(getattr(settings, name), f"{prefix}{name}", marked=marked)


def _paths_in(value: Any, key: str, *, marked: bool) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Settings):
        yield from input_paths(value, f"{key}.")
    elif isinstance(value, Path):
        if marked:
            yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _paths_in(item, f"{key}.{name}", marked=marked)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for index, item in enumerate(value):
            yield from _paths_in(item, f"{key}.{index}", marked=marked)


def _is_marked(annotation: Any) -> bool:
    # pydantic moves the outermost marker into the field's metadata; those of `InputPath | None` or
    # `tuple[InputPath, ...]` stay inside the annotation.
    return any(isinstance(part, Input) or _is_marked(part) for part in _parts(annotation))


def _parts(annotation: Any) -> tuple[Any, ...]:
    return (*get_args(annotation), *getattr(annotation, "__metadata__", ()))
