"""The floors of the house: imports go strictly down, siblings never meet, and nothing heavy loads early.

The sources are read, not imported; an import inside a function counts, one under TYPE_CHECKING does not.
"""

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "tailkeep"

# From the ground up. `__init__` is the package itself, which holds the version; `recipes` holds data.
FLOORS = (
    {"__init__", "errors", "recipes"},
    {"optional", "sanitize", "workers"},
    {"config"},
    {"runs"},
    {"losses", "metrics", "data"},
    {"scoring", "rules"},
    {"edit", "lab", "audit", "forecast", "kr_test"},
    {"report"},
    {"integrations"},
    {"cli"},
    {"__main__"},
)
# Files are the interface between the rooms that write run directories and the one that reads them.
STRANGERS = {("report", "edit"), ("report", "lab"), ("report", "audit"), ("report", "forecast"), ("report", "kr_test")}
HEAVY = {"torch", "transformers", "sklearn", "tokenizers", "safetensors", "accelerate"}
MAY_BE_HEAVY = {"losses", "scoring", "rules", "edit", "lab", "audit", "kr_test", "integrations"}
ONLY_NUMBERS = {"numpy", "scipy"}
NAMELESS = {"utils", "util", "common", "helpers", "helper", "misc"}


def modules_of(source: Path) -> dict[str, Path]:
    """Each module below `source` by its name without the package's: `runs`, `runs.storage`, `__init__`."""
    return {
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(source.rglob("*.py"))
    }


def imports_of(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each module that `path` imports, with the names it takes from it."""
    hidden = set()
    for node in ast.walk(tree := ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING":
            hidden |= {inner for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; write the whole name"
            assert node.module is not None
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"require", "import_module", "__import__"}:
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield first.value, []


def internal_imports(source: Path) -> dict[str, set[str]]:
    """The modules of the package that each of its modules imports; `from room import module` is an import of both."""
    modules = modules_of(source)
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for imported, taken in imports_of(path):
            if imported.split(".")[0] != "tailkeep":
                continue
            target = imported.removeprefix("tailkeep").removeprefix(".") or "__init__"
            inner = {f"{target}.{item}".removeprefix("__init__.") for item in taken} & modules.keys()
            # A package that takes nothing but modules of its own from itself is no cycle.
            graph[name] |= inner or {target}
    return graph


def room_of(module: str) -> str:
    return module.split(".")[0]


def floor_of(module: str) -> int:
    (floor,) = (number for number, rooms in enumerate(FLOORS) if room_of(module) in rooms)
    return floor


def climbs(graph: dict[str, set[str]]) -> list[str]:
    """Each import that stays on its floor or goes up, unless it stays in its room."""
    return [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in sorted(targets)
        if room_of(name) != room_of(target)
        and (floor_of(target) >= floor_of(name) or (room_of(name), room_of(target)) in STRANGERS)
    ]


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def loaded_by(*arguments: str) -> tuple[int, set[str]]:
    """The exit status and the packages in memory after `python arguments`."""
    code = (
        "import atexit, json, runpy, sys\n"
        "atexit.register(lambda: print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules}))))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True) if len(sys.argv) > 1 "
        "else __import__(sys.argv[0])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True)
    assert ended.stdout, ended.stderr
    return ended.returncode, set(json.loads(ended.stdout.splitlines()[-1]))


# The package


def test_every_room_has_exactly_one_floor():
    rooms = {room_of(module) for module in modules_of(SOURCE)}
    assert {room: sum(room in floor for floor in FLOORS) for room in rooms} == dict.fromkeys(rooms, 1)


def test_imports_go_strictly_down_and_siblings_never_meet():
    assert climbs(internal_imports(SOURCE)) == []


def test_no_file_has_more_than_400_lines():
    lengths = {
        str(path.relative_to(SOURCE)): len(path.read_text("utf-8").splitlines()) for path in SOURCE.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_modules_import_each_other_in_a_circle():
    assert cycle_in(internal_imports(SOURCE)) == []


def test_every_import_of_the_package_names_a_module_that_exists():
    modules = modules_of(SOURCE)
    missing = {
        f"{name} imports {target}"
        for name, targets in internal_imports(SOURCE).items()
        for target in targets
        if target not in modules
    }
    assert missing == set()


def test_heavy_packages_are_imported_only_where_models_are_trained_or_asked():
    found = {
        (room_of(name), imported.split(".")[0])
        for name, path in modules_of(SOURCE).items()
        for imported, _ in imports_of(path)
        if imported.split(".")[0] in HEAVY and room_of(name) not in MAY_BE_HEAVY
    }
    assert found == set()


def test_metrics_are_functions_of_numbers_alone():
    found = {
        imported.split(".")[0]
        for name, path in modules_of(SOURCE).items()
        for imported, _ in imports_of(path)
        if room_of(name) == "metrics"
    }
    assert found - sys.stdlib_module_names <= ONLY_NUMBERS | {"tailkeep"}


def test_no_module_has_a_name_that_says_nothing():
    assert [name for name in modules_of(SOURCE) if NAMELESS & set(name.split("."))] == []


def test_importing_the_package_loads_neither_torch_nor_transformers():
    status, loaded = loaded_by("tailkeep")
    assert status == 0
    assert "tailkeep" in loaded
    assert loaded & {*HEAVY, "numpy", "scipy", "pydantic"} == set()


def test_the_help_of_the_command_loads_neither_torch_nor_transformers():
    status, loaded = loaded_by("tailkeep", "--help")
    assert status == 0
    assert "typer" in loaded
    assert loaded & {*HEAVY, "numpy", "scipy"} == set()


@pytest.mark.parametrize(
    "room",
    ["config", "runs", "metrics", "data", "rules", "report", "audit", "forecast", "kr_test.build", "kr_test.lint"],
)
def test_a_room_of_the_core_install_loads_nothing_heavy(room):
    status, loaded = loaded_by(f"tailkeep.{room}")
    assert status == 0
    assert loaded & HEAVY == set()


def test_the_laboratory_waits_with_what_is_heavy_for_an_arm_that_needs_it():
    status, loaded = loaded_by("tailkeep.lab")
    assert status == 0
    # Models that need no network are saved with it too.
    assert loaded & HEAVY <= {"safetensors"}


def test_the_architecture_page_lists_every_file_by_its_first_line():
    script = SOURCE.parents[1] / "docs" / "architecture.py"
    ended = subprocess.run([sys.executable, script, "--check"], check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


# The reader itself: each rule is seen to be broken


def package(folder: Path, files: dict[str, str]) -> Path:
    for name, text in {"__init__.py": "", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("runs/a.py", "from tailkeep.lab import run", ["runs.a imports lab"]),
        ("runs/a.py", "import tailkeep.lab.loop", ["runs.a imports lab.loop"]),
        ("runs/a.py", "from tailkeep import lab", ["runs.a imports lab"]),
        ("runs/a.py", "def f():\n    from tailkeep.lab import run", ["runs.a imports lab"]),
        ("runs/a.py", "try:\n    import tailkeep.lab\nexcept ImportError:\n    pass", ["runs.a imports lab"]),
        ("metrics/a.py", "import tailkeep.losses", ["metrics.a imports losses"]),
        ("sanitize.py", "import tailkeep.optional", ["sanitize imports optional"]),
        ("report/a.py", "from tailkeep.lab import run", ["report.a imports lab"]),
        ("lab/a.py", "require('tailkeep.report', extra='x')", ["lab.a imports report"]),
        ("errors.py", "import tailkeep", ["errors imports __init__"]),
        ("runs/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tailkeep.lab", []),
        ("runs/a.py", "import typing\nif typing.TYPE_CHECKING:\n    import tailkeep.lab", []),
        ("lab/a.py", "from tailkeep.lab.loop import run\nfrom tailkeep import __version__", []),
    ],
)
def test_the_reader_sees_every_import_that_climbs(tmp_path, name, text, found):
    others = {f"{room}/__init__.py": "" for room in ("lab", "runs", "losses", "metrics", "report")}
    others |= {"lab/loop.py": "", "optional.py": ""}
    assert climbs(internal_imports(package(tmp_path, {**others, name: text}))) == found


def test_the_reader_sees_a_circle(tmp_path):
    files = {
        "lab/__init__.py": "from tailkeep.lab.a import x",
        "lab/a.py": "def f():\n    from tailkeep.lab import b",
        "lab/b.py": "from tailkeep.lab import x",
    }
    assert set(cycle_in(internal_imports(package(tmp_path, files)))) == {"lab", "lab.a", "lab.b"}


def test_a_room_that_opens_its_own_modules_is_no_circle(tmp_path):
    files = {
        "lab/__init__.py": "from tailkeep.lab.a import x",
        "lab/a.py": "from tailkeep.lab import b",
        "lab/b.py": "",
    }
    assert cycle_in(internal_imports(package(tmp_path, files))) == []
