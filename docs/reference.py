"""The reference pages of the site: commands, configuration keys and public names, read from the installed package.

Rule: nothing is listed by hand, so a new verb, option, key or name appears by itself.

python docs/reference.py DIR      writes the pages below DIR
"""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import typer
from reference_config import config_pages
from reference_text import (
    NAMES,
    ReferencePage,
    code,
    docstring,
    escape,
    plain,
    public_names,
    render_docstring,
    split_by_module,
)

from tailkeep.cli import app


def pages() -> Iterator[ReferencePage]:
    """All pages: one a command, one a room and part of the configuration, one a package with public names."""
    yield from command_pages()
    yield from config_pages()
    yield from package_pages()


def commands(command: Any = None, path: tuple[str, ...] = ("tailkeep",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the command line with its words, groups left out."""
    command = command or typer.main.get_command(app)
    if inner := getattr(command, "commands", None):
        for name, one in inner.items():
            yield from commands(one, (*path, name))
    else:
        yield path, command


def options(command: Any) -> list[Any]:
    """The options and arguments of a command, those that are hidden left out."""
    return [one for one in command.params if not getattr(one, "hidden", False)]


def command_pages() -> Iterator[ReferencePage]:
    """A page for each word after `tailkeep`, with the commands below it."""
    verbs: dict[str, list[tuple[tuple[str, ...], Any]]] = {}
    for path, command in commands():
        verbs.setdefault(path[1], []).append((path, command))
    root = typer.main.get_command(app)
    for verb, members in verbs.items():
        group = root.commands[verb]  # type: ignore[attr-defined]
        parts = [f"# tailkeep {verb}\n"]
        if len(members) > 1:
            parts.append(escape(inspect.cleandoc(group.help or "")) + "\n")
        parts += [_command(path, command, alone=len(members) == 1) for path, command in members]
        yield ReferencePage("Commands", f"tailkeep {verb}", f"reference/cli/{verb}.md", "\n".join(parts))


def _command(path: tuple[str, ...], command: Any, *, alone: bool) -> str:
    arguments = [one for one in options(command) if one.param_type_name == "argument"]
    usage = " ".join([*path, "[OPTIONS]", *(one.name.upper() for one in arguments)])
    lines = [] if alone else [f"## {' '.join(path)}\n"]
    lines += [escape(inspect.cleandoc(command.help or "")), "", f"    {usage}", ""]
    lines += ["| option | value | default | meaning |", "|---|---|---|---|"]
    for one in options(command):
        names = ", ".join(code(name) for name in (*one.opts, *one.secondary_opts))
        if one.param_type_name == "argument":
            names = code(one.name.upper())
        flag = getattr(one, "is_flag", False)
        value = "" if flag else code(value_text(one))
        default = "" if one.default is None or callable(one.default) or flag else code(plain(one.default))
        help_text = getattr(one, "help", None) or ""
        required = " Required." if one.required else ""
        lines.append(f"| {names} | {value} | {default} | {escape(' '.join(help_text.split()))}{required} |")
    return "\n".join(lines) + "\n"


def value_text(option: Any) -> str:
    """What an option takes: its metavar, else the words of an enumeration, else the kind of its type."""
    annotation = option.type_descriptor.annotation
    if option.metavar:
        return str(option.metavar)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(one.value) for one in annotation)
    inner = next(iter(get_args(annotation)), annotation)
    limits = [f"{sign} {limit}" for sign, limit in ((">=", option.min), ("<=", option.max)) if limit is not None]
    return " ".join([NAMES.get(inner, getattr(inner, "__name__", "text")), *limits])


def package_pages() -> Iterator[ReferencePage]:
    """A page for each package with public names, or for each module that has some of them where that would be long."""
    for package, items in public_names().items():
        modules: dict[str, dict[str, str]] = {}
        for name in sorted(items, key=str.lower):
            home = getattr(items[name], "__module__", "") or ""
            module = home.removeprefix(f"{package}.") if home.startswith(f"{package}.") else ""
            modules.setdefault(module, {})[name] = _name(name, items[name])
        texts = {name: text for module in modules.values() for name, text in module.items()}
        for module, names in split_by_module(modules):
            title = " ".join(filter(None, (package, module)))
            head = importlib.import_module(".".join(filter(None, (package, module.partition(" ")[0]))))
            parts = [f"# {title}\n", render_docstring(docstring(head))]
            if module:
                parts.append(f"Import these names from `{package}`.\n")
            uri = re.sub("[._ ]", "-", title.removeprefix("tailkeep."))
            yield ReferencePage(
                "Python", title, f"reference/python/{uri}.md", "\n".join([*parts, *map(texts.get, names)])
            )


def _name(name: str, item: object) -> str:
    lines = [f"## {name}\n"]
    if callable(item) and (text := _signature(name, item)):
        lines += ["```python", text, "```\n"]
    elif not callable(item) and not inspect.ismodule(item):
        shown = repr(item)
        lines += [f"Constant, {code(shown if len(shown) < 200 else type(item).__name__)}.\n"]
        return "\n".join(lines)
    lines.append(render_docstring(docstring(item)))
    if isinstance(item, type):
        lines += [
            _member(key, value) for key, value in vars(item).items() if not key.startswith("_") and _is_method(value)
        ]
    return "\n".join(lines)


def _is_method(value: object) -> bool:
    inner = getattr(value, "__func__", value)
    inner = inner.fget if isinstance(inner, property) else inner
    return (
        inspect.isfunction(inner) and inner.__module__.startswith("tailkeep") and not hasattr(value, "decorator_info")
    )


def _member(name: str, value: object) -> str:
    inner = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    text = name if isinstance(value, property) else _signature(name, inner)
    return f"### {name}\n\n```python\n{text}\n```\n\n{render_docstring(docstring(inner))}"


def _signature(name: str, item: Any) -> str:
    try:
        text = f"{name}{inspect.signature(item)}"
    except (TypeError, ValueError):
        return name if is_dataclass(item) else ""
    # Where a name comes from makes a signature no clearer.
    text = re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z_])", "", text)
    text = re.sub(r"<([\w.]+)(?: object)? at 0x[0-9a-f]+>", r"<\1>", text)
    if len(text) <= 100:
        return text
    head, _, rest = text.partition("(")
    inside, _, tail = rest.rpartition(")")
    return f"{head}(\n" + "".join(f"    {part},\n" for part in _split(inside)) + f"){tail}"


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]


def main() -> None:
    """Write the pages below the folder that is given."""
    for page in pages():
        path = Path(sys.argv[1]) / page.uri
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page.markdown, encoding="utf-8")


if __name__ == "__main__":
    main()
