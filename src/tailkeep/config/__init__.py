"""Typed configurations: loaded from YAML, overridden by dotted keys, checked with suggestions, dumped again.

Precedence is override > file > default. Each room owns its own models; this package knows none of them.
"""

from tailkeep.config.faults import suggest, validate
from tailkeep.config.overrides import dotted, merge, parse_assignments
from tailkeep.config.settings import InputPath, Settings, input_paths
from tailkeep.config.yaml_text import Tree, dump, dump_tree, parse_yaml, read_yaml

__all__ = [
    "InputPath",
    "Settings",
    "Tree",
    "dotted",
    "dump",
    "dump_tree",
    "input_paths",
    "merge",
    "parse_assignments",
    "parse_yaml",
    "read_yaml",
    "suggest",
    "validate",
]
