"""Typed configurations: loaded from YAML, overridden by dotted keys, checked with suggestions, dumped again.

Precedence is override > file > default. Each room owns its own models; this package knows none of them.
"""

from tailkeep.config.loader import describe, dotted, load_tree, merge, parse_assignments, suggest, validate
from tailkeep.config.settings import InputPath, Settings, input_paths
from tailkeep.config.user_code import CodeOptions, UserCode, as_code, codes_in, is_reference, reference_to
from tailkeep.config.yaml_text import Tree, dump_tree, parse_yaml, read_yaml, redact_yaml

__all__ = [
    "CodeOptions",
    "InputPath",
    "Settings",
    "Tree",
    "UserCode",
    "as_code",
    "codes_in",
    "describe",
    "dotted",
    "dump_tree",
    "input_paths",
    "is_reference",
    "load_tree",
    "merge",
    "parse_assignments",
    "parse_yaml",
    "read_yaml",
    "redact_yaml",
    "reference_to",
    "suggest",
    "validate",
]
