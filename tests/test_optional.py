import ast
import sys
import tomllib
from pathlib import Path

import pytest

from tailkeep.errors import MissingPackageError
from tailkeep.lab.config import _ARM_TYPES
from tailkeep.optional import require, require_version

ROOT = Path(__file__).parents[1]


def test_an_installed_module_is_returned():
    assert require("json.decoder", extra="hf") is sys.modules["json.decoder"]


def test_a_missing_package_is_named_with_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingPackageError) as caught:
        require("sklearn.mixture", extra="mixture")
    assert str(caught.value) == (
        "sklearn is not installed, and this needs it. Install it with: pip install 'tailkeep[mixture]'"
    )
    assert caught.value.name == "sklearn"


def test_a_package_that_is_too_old_is_to_be_upgraded():
    with pytest.raises(MissingPackageError) as caught:
        require("json.no_such_part.inner", extra="hf")
    assert str(caught.value) == (
        "the installed json has no json.no_such_part. Upgrade it with: pip install --upgrade 'tailkeep[hf]'"
    )


@pytest.mark.parametrize(("installed", "minimum"), [("5.16.1", (5, 17)), ("4.57.6", (5, 0)), ("5.9.0rc1", (5, 10))])
def test_a_version_that_one_purpose_needs_newer_is_refused(installed, minimum, monkeypatch):
    monkeypatch.setattr("tailkeep.optional.version", lambda package: installed)
    least = f"{minimum[0]}.{minimum[1]}"
    with pytest.raises(MissingPackageError) as caught:
        require_version("transformers", minimum, extra="hf", purpose="the learner causal_lm")
    assert str(caught.value) == (
        f"the learner causal_lm needs transformers >= {least}, and {installed} is installed. "
        f"Upgrade it with: pip install --upgrade 'tailkeep[hf]' 'transformers>={least}'"
    )


@pytest.mark.parametrize(("installed", "minimum"), [("5.17.0", (5, 17)), ("6.0.0.dev1", (5, 17)), ("5.23", (5, 9))])
def test_a_version_that_is_new_enough_passes(installed, minimum, monkeypatch):
    monkeypatch.setattr("tailkeep.optional.version", lambda package: installed)
    require_version("transformers", minimum, extra="hf", purpose="the learner causal_lm")


def test_what_a_package_itself_misses_is_not_blamed_on_the_package(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import something_it_needs")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_it_needs") as caught:
        require("broken_package", extra="hf")
    assert not isinstance(caught.value, MissingPackageError)


def test_a_package_that_breaks_on_import_shows_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "raising_package.py").write_text("raise ImportError('wrong driver')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="wrong driver"):
        require("raising_package", extra="hf")


def extras_asked_for():
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "require":
                given = [keyword.value for keyword in node.keywords if keyword.arg == "extra"]
                yield from (value.value for value in given if isinstance(value, ast.Constant))


def test_every_install_line_names_an_extra_that_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {*extras_asked_for(), *(arm.extra for arm in _ARM_TYPES.values() if arm.extra)}
    assert {"hf", "mixture"} <= asked
    assert asked <= project["optional-dependencies"].keys()
