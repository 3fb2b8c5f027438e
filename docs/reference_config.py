"""The pages of the configuration: every key with its type, limits, default and meaning, from the pydantic models.

Rule: a configuration is what the `load` of a room returns; all else is reached by walking its fields.
"""

import pkgutil
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from reference_text import (
    ENTRY,
    NAMES,
    SECTION,
    ReferencePage,
    code,
    docstring,
    escape,
    plain,
    public_names,
    render_docstring,
    split_by_module,
    summary,
)

BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "min_length": "length >=", "max_length": "length <="}


@dataclass(frozen=True)
class ConfigSection:
    """A model of the configuration and the key below which it first stands."""

    model: type[BaseModel]
    key: str


def roots() -> list[type[BaseModel]]:
    """The configurations: what the `load` of a room returns."""
    loaders = [items["load"] for items in public_names().values() if "load" in items]
    kinds = [typing.get_type_hints(load)["return"] for load in loaders]
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models of the package that an annotation names, inside unions, lists and mappings too."""
    if isinstance(annotation, type) and not get_args(annotation):
        if issubclass(annotation, BaseModel) and annotation.__module__.startswith("tailkeep"):
            yield annotation
    else:
        for part in get_args(annotation):
            yield from models_of(part)


def sections(root: type[BaseModel]) -> list[ConfigSection]:
    """The models below `root` in the order of a walk, each with the key below which it first stands."""
    places: dict[type[BaseModel], str] = {}

    def walk(model: type[BaseModel], key: str) -> None:
        places[model] = key
        later = []
        for name, field in model.model_fields.items():
            below = f"{key}.{name}" if key else name
            if get_origin(_bare(field.annotation)) in (dict, Mapping):
                below += ".NAME"
            for inner in models_of(field.annotation):
                if inner not in places:
                    places[inner] = below
                    later.append((inner, below))
        for inner, below in later:
            walk(inner, below)

    walk(root, "")
    return [ConfigSection(model, key) for model, key in places.items()]


def choice_of(model: type[BaseModel]) -> str:
    """What chooses this model among its like: `name: edit`, `learner: gan`; nothing if it has no like."""
    for key in ("learner", "name", "of", "form"):
        field = model.model_fields.get(key)
        if field is not None and get_origin(field.annotation) is Literal:
            return f"{key}: {get_args(field.annotation)[0]}"
    return ""


def anchor(model: type[BaseModel]) -> str:
    """The anchor of a model's section."""
    return model.__name__.lower()


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def bounds(metadata: Any) -> str:
    """The limits that pydantic has of a value: ">= 1, <= 2"."""
    limits = []
    for mark in metadata:
        inner = getattr(mark, "metadata", None) if isinstance(mark, FieldInfo) else [mark]
        for one in inner or []:
            limits += [
                f"{sign} {getattr(one, key)}" for key, sign in BOUNDS.items() if getattr(one, key, None) is not None
            ]
    return ", ".join(limits)


def type_text(annotation: Any, where: Mapping[type, str]) -> str:
    """An annotation in words, with a link to each model."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = bounds(args[1:])
        return type_text(args[0], where) + (f" {escape(limits)}" if limits else "")
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(part, where) for part in args))
    if origin is Literal:
        return ", ".join(code(plain(value)) for value in args)
    if origin in (tuple, list, set, frozenset):
        return "list of " + type_text(args[0], where)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return f"mapping of {type_text(args[0], where)} to {type_text(args[1], where)}"
    if annotation in where:
        return f"[{choice_of(annotation) or annotation.__name__}]({where[annotation]})"
    return NAMES.get(annotation, getattr(annotation, "__name__", "any value") if annotation is not Any else "any value")


def default_text(field: FieldInfo) -> str:
    """The default of a key as YAML would have it; what is computed or a mapping of its own is named."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True) if not field.default_factory else field.default_factory()  # type: ignore[call-arg]
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return code(
            "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value if key in value.model_fields_set) + "}"
        )
    return code(_yaml(value))


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, BaseModel):
        return "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value if key in value.model_fields_set) + "}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return plain(value) if plain(value) else '""'


def attributes_of(text: str) -> dict[str, str]:
    """The entries of the section "Attributes" or "Args" of a docstring by name."""
    entries: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in text.splitlines():
        if match := SECTION.match(line):
            inside = match[1] in {"Attributes", "Args"}
        elif inside and (match := ENTRY.match(line)):
            names = [name.strip("` *") for name in match[1].split(",")]
            entries |= dict.fromkeys(names, match[2])
        elif inside and line.strip():
            entries |= {name: f"{entries[name]} {line.strip()}" for name in names}
    return entries


def key_text(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    """What the docstrings say about a key: an entry of its own, else the sentences that name it, else its value's."""
    if field.description:
        return field.description
    texts = [
        docstring(one)
        for one in model.__mro__
        if isinstance(one, type) and issubclass(one, BaseModel) and one is not BaseModel
    ]
    # The options of a loss or selector are arguments of a function, which has their words.
    texts.extend(docstring(target) for target in function_of(model))
    for text in texts:
        if name in (entries := attributes_of(text)):
            return entries[name]
    if choice_of(model).startswith(f"{name}: ") and len(get_args(field.annotation)) == 1:
        return "Chooses this kind."
    inner = list(models_of(field.annotation))
    value = summary(docstring(inner[0])) if len(inner) == 1 else ""
    # What a base says in passing says less than the value's own docstring.
    return _sentences(texts[0], name) or value or next(filter(None, (_sentences(text, name) for text in texts[1:])), "")


def _sentences(text: str, name: str) -> str:
    prose = " ".join(re.split(r"\n\w+:\n", text)[0].split())
    return " ".join(one for one in re.split(r"(?<=[.;])\s+(?=[A-Z`])", prose) if re.search(rf"`{name}\b", one))


def _without_keys(text: str) -> str:
    """A docstring without its section of attributes, which the table repeats."""
    return re.sub(r"^Attributes:\n(?:(?: .*)?\n?)*", "", text, flags=re.MULTILINE)


def function_of(model: type[BaseModel]) -> Iterator[object]:
    """The function that a model names as module:function in its class variable `function`."""
    name = getattr(model, "function", None)
    if isinstance(name, str) and ":" in name:
        package = model.__module__.rpartition(".")[0]
        yield pkgutil.resolve_name(f"{package}.{name}")


def config_pages() -> Iterator[ReferencePage]:
    """A page for each package of the models, or for each module of it where that would be long."""
    placed: dict[type[BaseModel], tuple[ConfigSection, type[BaseModel]]] = {}
    for root in roots():
        for section in sections(root):
            # A part that several rooms share is described once.
            placed.setdefault(section.model, (section, root))
    packages: dict[str, dict[str, list[type[BaseModel]]]] = {}
    for model in placed:
        package, _, module = model.__module__.removeprefix("tailkeep.").rpartition(".")
        packages.setdefault(package or module, {}).setdefault(module, []).append(model)
    paged: dict[str, list[type[BaseModel]]] = {}
    for package, modules in packages.items():
        texts = {name: {one: _config_section(*placed[one], {}) for one in models} for name, models in modules.items()}
        for name, models in split_by_module(texts):
            paged[".".join(filter(None, (package, name)))] = models
    uris = {name: re.sub("[._ ]", "-", name) + ".md" for name in paged}
    links = {model: f"{uris[name]}#{anchor(model)}" for name, models in paged.items() for model in models}
    for name, models in paged.items():
        title = name.replace(".", ", ").replace("_", " ")
        text = [f"# Keys: {title}\n", _config_head([placed[model] for model in models])]
        text += [_config_section(*placed[model], links) for model in models]
        yield ReferencePage("Configuration", title, f"reference/config/{uris[name]}", "\n".join(text))


def _config_head(members: list[tuple[ConfigSection, type[BaseModel]]]) -> str:
    tops = dict.fromkeys(code(root.__name__) for _, root in members)
    rows = [
        f"- [{_heading(section)}](#{anchor(section.model)}): {escape(summary(docstring(section.model)))}"
        for section, _ in members
    ]
    return (
        f"Configuration keys below {', '.join(tops)}, with their types, defaults and limits.\n\n"
        + "\n".join(rows)
        + "\n"
    )


def _heading(section: ConfigSection) -> str:
    key = section.key or section.model.__name__
    choice = choice_of(section.model)
    return code(f"{key}: {{{choice}}}" if choice else key)


def _config_section(section: ConfigSection, root: type[BaseModel], links: Mapping[type, str]) -> str:
    model = section.model
    lines = [f'<a id="{anchor(model)}"></a>\n', f"## {_heading(section)}\n"]
    below = f"Key {code(section.key)} of" if section.key else "Top level of"
    lines += [f"*{below} {code(root.__name__)}; in Python {code(f'{model.__module__}.{model.__name__}')}.*\n"]
    lines += [
        render_docstring(_without_keys(docstring(model))),
        "| key | value | default | meaning |",
        "|---|---|---|---|",
    ]
    for name, field in model.model_fields.items():
        limits = bounds(field.metadata)
        value = type_text(field.annotation, links) + (f" {escape(limits)}" if limits else "")
        shown, meaning = field.alias or name, escape(" ".join(key_text(model, name, field).split()))
        lines.append(f"| {code(shown)} | {value} | {default_text(field)} | {meaning} |")
    return "\n".join(lines) + "\n"
