"""What the pages of the reference share: a page, docstrings as Markdown, and the public names of the package.

Rule: the words are those of the docstrings.
"""

import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import tailkeep

MAX_WORDS = 1500
MAX_HEAD = 250
"""Words of a page before its sections, at most."""
NAMES = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path", type(None): "null"}
SECTION = re.compile(r"^(Args|Arguments|Attributes|Returns|Raises|Yields|Shapes|Note|Notes|Example|Examples|Source):$")
ENTRY = re.compile(r"^ {4}(\*{0,2}[\w., `*]+?)(?: \([^)]*\))?: (.*)$")


Key = TypeVar("Key")


class ReferencePage(NamedTuple):
    """A page of the reference: its part of the navigation, title, path below docs/ and Markdown."""

    section: str
    title: str
    uri: str
    markdown: str


def escape(text: str) -> str:
    """`text` for Markdown, with its code spans as they are."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"([*_\[\]|])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "".join(part.replace("|", "\\|") if number % 2 else part for number, part in enumerate(parts))


def code(text: str) -> str:
    """`text` as a code span that may stand in a table."""
    return "`" + text.replace("|", "\\|") + "`"


def docstring(item: object) -> str:
    """The docstring of `item` itself: none that a base of another package has lent it."""
    text = inspect.getdoc(item) or ""
    bases = [one for one in getattr(item, "__mro__", ())[1:] if not one.__module__.startswith("tailkeep")]
    return "" if any(text and text == inspect.getdoc(base) for base in bases) else text


def render_docstring(text: str) -> str:
    """A docstring as Markdown: paragraphs and code as they stand, its sections as lists."""
    out: list[str] = []
    inside = False
    for line in text.splitlines():
        if match := SECTION.match(line):
            inside = True
            out += ["", f"**{match[1]}**", ""]
        elif inside and (match := ENTRY.match(line)):
            out.append(f"- {code(match[1])}: {escape(match[2])}")
        elif inside and line.startswith("    "):
            starts = bool(out) and out[-1] == ""
            out.append(f"- {escape(line.strip())}" if starts else f"  {escape(line.strip())}")
        elif line.startswith("    "):
            out.append(line)
        else:
            inside = inside and not line.strip()
            # A block of code needs an empty line before it, a paragraph one behind it.
            if out and out[-1].startswith("    ") and line.strip():
                out.append("")
            out.append(escape(line))
    return "\n".join(out).strip() + "\n"


def summary(text: str) -> str:
    """The first sentence of a docstring."""
    line = " ".join(text.split("\n\n")[0].split())
    # A full stop or colon inside a code span ends no sentence.
    match = re.match(r"(?:`[^`]*`|[^`])*?[.:](?=\s|$)", line)
    return (match[0] if match else line).rstrip(":")


def plain(value: object) -> str:
    """The value of an enumeration's member, else the value, as text."""
    return str(getattr(value, "value", value))


def public_names() -> dict[str, dict[str, object]]:
    """The public names of each package, by its name: those that it exports, else those that its modules define.

    The command line has pages of its own, and no names to import.
    """
    packages: dict[str, dict[str, object]] = {
        "tailkeep": {name: getattr(tailkeep, name) for name in vars(tailkeep)["_LAZY"]}
    }
    for info in pkgutil.walk_packages(tailkeep.__path__, "tailkeep."):
        if not info.ispkg or info.name == "tailkeep.cli":
            continue
        module = importlib.import_module(info.name)
        if names := vars(module).get("__all__"):
            packages[info.name] = {name: getattr(module, name) for name in names}
        elif info.name.count(".") == 1:
            packages |= {inner: names for inner, names in _defined(module) if names}
    # What the package above exports too is described there.
    outer = {name: packages.get(name.rpartition(".")[0], {}) for name in packages}
    alone = {name: {k: v for k, v in items.items() if k not in outer[name]} for name, items in packages.items()}
    return {name: items for name, items in alone.items() if items}


def _defined(package: types.ModuleType) -> Iterator[tuple[str, dict[str, object]]]:
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        items = {name: item for name, item in vars(module).items() if getattr(item, "__module__", "") == info.name}
        yield info.name, {name: item for name, item in items.items() if not name.startswith("_") and callable(item)}


def split_by_module(parts: dict[str, dict[Key, str]]) -> Iterator[tuple[str, list[Key]]]:
    """The sections of a package, by module and key, as pages of at most MAX_WORDS words where a section is no longer.

    All stand on one page without a name if they fit it; else each module has its own, and a long one "NAME 2" too.
    """
    sizes = {module: {key: len(text.split()) for key, text in texts.items()} for module, texts in parts.items()}
    if sum(sum(one.values()) for one in sizes.values()) <= MAX_WORDS - MAX_HEAD:
        yield "", [key for texts in parts.values() for key in texts]
        return
    for module, texts in sizes.items():
        number, words, keys = 1, 0, []
        for key, size in texts.items():
            if keys and words + size > MAX_WORDS - MAX_HEAD:
                yield (f"{module} {number}" if number > 1 else module), keys
                number, words, keys = number + 1, 0, []
            words += size
            keys.append(key)
        yield (f"{module} {number}" if number > 1 else module), keys
