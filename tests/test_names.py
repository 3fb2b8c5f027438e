"""The names of the house: no participle or pronoun stands for a thing, and no two public classes share a name.

The sources are parsed, not imported. A word is refused only where it is the whole identifier; `left` may stand beside
`right`, and keyword arguments of calls are the other package's own.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_architecture import SOURCE, modules_of, package

REFUSED = frozenset(
    [
        *("found", "given", "made", "told", "own", "chosen", "wanted", "asked", "kept", "written", "drawn"),
        *("ours", "theirs", "there", "here", "left", "left_out"),
    ]
)


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each name that `tree` defines or uses, with its line; names of functions of other packages are their own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.split(".")[-1], node.lineno


def with_right(tree: ast.AST) -> set[int]:
    """The lines of functions and classes that also speak of `right`."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and any(name == "right" for name, _ in identifiers(node)):
            assert node.end_lineno is not None
            lines |= set(range(node.lineno, node.end_lineno + 1))
    return lines


def refused_names(source: Path) -> list[str]:
    """Each identifier below `source` that equals a refused word, with its place."""
    hits = []
    for module, path in modules_of(source).items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        beside_right = with_right(tree)
        hits += [
            f"{module}, line {line}: {name}"
            for name, line in identifiers(tree)
            if name.strip("_") in REFUSED and not (name.strip("_") == "left" and line in beside_right)
        ]
        hits += [f"{module}: a module" for part in module.split(".") if part in REFUSED]
    return hits


def shared_class_names(source: Path) -> dict[str, list[str]]:
    """Each name of several public classes, with the modules that define them."""
    classes = defaultdict(list)
    for module, path in modules_of(source).items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(module)
    return {name: modules for name, modules in classes.items() if len(modules) > 1}


def test_no_identifier_is_a_participle_or_a_pronoun():
    assert refused_names(SOURCE) == []


def test_a_name_stands_for_one_public_class():
    assert shared_class_names(SOURCE) == {}


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("found = 1", ["lab.a, line 1: found"]),
        ("def given(): pass", ["lab.a, line 1: given"]),
        ("class kept: pass", ["lab.a, line 1: kept"]),
        ("def f(own): pass", ["lab.a, line 1: own"]),
        ("x.written", ["lab.a, line 1: written"]),
        ("_left_out = 1", ["lab.a, line 1: _left_out"]),
        ("from b import c as theirs", ["lab.a, line 1: theirs"]),
        ("left = 1", ["lab.a, line 1: left"]),
        ("def f(left, right): return left", []),
        ("f(wanted=1)", []),
        ("kept_mask = found_words = 1", []),
    ],
)
def test_the_reader_sees_every_refused_name(tmp_path, text, refused):
    assert refused_names(package(tmp_path, {"lab/__init__.py": "", "lab/a.py": text})) == refused


def test_the_reader_sees_a_module_with_a_refused_name(tmp_path):
    assert refused_names(package(tmp_path, {"lab/__init__.py": "", "lab/drawn.py": ""})) == ["lab.drawn: a module"]


def test_the_reader_sees_two_classes_of_one_name(tmp_path):
    files = {
        "lab/__init__.py": "",
        "lab/a.py": "class Sample: pass\nclass _Row: pass",
        "lab/b.py": "class Sample: pass",
    }
    assert shared_class_names(package(tmp_path, files)) == {"Sample": ["lab.a", "lab.b"]}
