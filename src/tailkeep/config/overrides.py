"""Layers of a configuration, laid over each other. Rule: the later one wins, mapping by mapping."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tailkeep.config.yaml_text import Tree, parse_yaml
from tailkeep.errors import ConfigError
from tailkeep.redaction import redact

_KEY = r'\s*(?:"[^"]+"\s*|[^\s".=][^".=]*)'
_ASSIGNMENT = re.compile(rf"({_KEY}(?:\.{_KEY})*)=(.*)", re.DOTALL)


def parse_assignments(assignments: Sequence[str]) -> Tree:
    """`["a.b=1", "a.c=[x]"]` as `{"a": {"b": 1, "c": ["x"]}}`; values are YAML, and the last of two wins.

    A key that holds a dot stands in double quotes: `arms."cut-0.9".loss=...`.

    Raises:
        ConfigError: an assignment has no `=` or an empty key, or its value is not YAML.
    """
    tree: Tree = {}
    for assignment in assignments:
        found = _ASSIGNMENT.fullmatch(assignment)
        if found is None:
            raise ConfigError(f"cannot read the override {redact(assignment)!r}. Write it as key.subkey=value.")
        path, value = found.groups()
        keys = [key.strip().strip('"') for key in re.findall(_KEY, path)]
        node: Any = parse_yaml(value, source=f"--set {dotted(keys)}")
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
    one's keys belong to another kind: `{name: focal, exponent: 2}` never leaks into `{name: truncated}`.
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
