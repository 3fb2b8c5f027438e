"""YAML text in and out.

Rule: a value means what it shows. `1e-3` is a number; `no`, `1:30`, `010` and `2024-01-01` are text, as in YAML 1.2. A
key given twice, an alias, a tag and deep nesting are refused, so that no text can construct an object or grow while it
is read.
"""

import itertools
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tailkeep.errors import ConfigError, InputError
from tailkeep.sanitize import redact_tree, visible

Tree = dict[str, Any]

_DEEPEST = 32
_EXPONENT = re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
_SCALARS = [
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789")),
    ("float", re.compile(r"^[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+)$"), list("-+.0123456789")),
    ("float", re.compile(r"^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"), list("-+.")),
    ("float", _EXPONENT, list("-+.0123456789")),
]
_MARKS = (yaml.StreamStartToken, yaml.DocumentStartToken, yaml.DocumentEndToken, yaml.StreamEndToken)


class _RefusedError(yaml.MarkedYAMLError):
    """YAML that tailkeep does not accept; `problem` says what to write in its place."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, made stricter."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own attribute, filled below)
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise self._refused(f"the alias *{event.anchor} is not allowed. Write the value out.", event)
        if getattr(event, "tag", None) is not None:
            raise self._refused(f"the tag {event.tag!r} is not allowed. Write the plain value.", event)
        if self.depth == _DEEPEST:
            raise self._refused(f"nested deeper than {_DEEPEST} levels. Write it flatter.", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping: dict[Hashable, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._refused("a key is a list or a mapping. Write a plain word.", key)
            if key.value in mapping:
                raise self._refused(f"the key {key.value!r} stands here twice. Keep one.", key)
            mapping[key.value] = self.construct_object(value, deep=deep)
        return mapping

    def _refused(self, problem: str, at: Any) -> _RefusedError:
        return _RefusedError(problem=problem, problem_mark=at.start_mark)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper; it quotes whatever this loader or a plain YAML 1.1 reader would take for another type."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  (an alias is never written, since none is read)
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML's other styles lose some line separators, such as U+0085; in double quotes each is escaped.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)
for _name, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def parse_yaml(text: str, *, source: str) -> Any:
    """The value that `text` holds: None, bool, int, float, str, or lists and mappings of them.

    Raises:
        ConfigError: `text` cannot be read; the message names `source` and the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a subclass of SafeLoader)
    except _RefusedError as error:
        raise ConfigError(f"{_place(source, error)}: {visible(str(error.problem))}") from None
    except yaml.MarkedYAMLError as error:
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(
            f"{_place(source, error)}: not YAML ({visible(problem)}). Correct the line, or put the text in quotes."
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        shown = visible(text[error.position], newline=" ")
        raise ConfigError(f"{source}, line {line}: the character {shown} is not allowed. Remove it.") from None
    except ValueError as error:  # int() refuses more than 4,300 digits
        raise ConfigError(f"{source}: a number cannot be read ({error}). Write a shorter one.") from None


def drops_text(value: str) -> bool:
    """Whether YAML reads nothing of `value`, or takes a part of it for a comment."""
    tokens = list(yaml.scan(value, Loader=_Loader))
    gaps = (value[one.end_mark.index : other.start_mark.index] for one, other in itertools.pairwise(tokens))
    is_nothing = all(type(token) in _MARKS for token in tokens)
    return (is_nothing and value != "") or any("#" in gap for gap in gaps)


def read_yaml(path: Path) -> Tree:
    """The mapping in the file at `path`.

    Raises:
        InputError: the file is missing or is not UTF-8.
        ConfigError: it is not a YAML mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. Give the path of a YAML file.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}. Save the file as UTF-8.") from None
    tree = parse_yaml(text, source=str(path))
    if not isinstance(tree, dict):
        kind = "nothing" if tree is None else type(tree).__name__
        raise ConfigError(f"{path}: expected keys and values, got {kind}. Write lines such as `seeds: [0, 1]`.")
    return tree


def dump_tree(tree: Mapping[str, Any]) -> str:
    """`tree` (plain values only) as YAML that `parse_yaml` reads back to an equal value, keys in their order."""
    return str(yaml.dump(dict(tree), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def redact_yaml(text: str, *, source: str) -> str:
    """The configuration `text` without what secret keys hold; the very text if there is nothing to hide.

    Key by key, since in a text a value cannot be told from what follows it, nor a number from a word.

    Raises:
        ConfigError: as `parse_yaml`.
    """
    tree = parse_yaml(text, source=source)
    hidden = redact_tree(tree)
    return text if hidden == tree else dump_tree(hidden)


def _place(source: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"{source}, line {mark.line + 1}" if mark else source
