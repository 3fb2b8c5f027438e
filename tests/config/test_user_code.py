"""References to the user's own code: how they are written, and that their options are checked before anything runs."""

import functools
import sys
from typing import Annotated

import pytest
from pydantic import BeforeValidator

from tailkeep import lab
from tailkeep.config import Settings, UserCode, as_code, codes_in, validate
from tailkeep.config.user_code import file_of, source_hash
from tailkeep.errors import CodeError, ConfigError

MODULE = """
LOADED = True
NUMBER = 3


def scale(values, factor: float, times: int = 1, *, seed=0):
    return values * factor * times


class Box:
    def __init__(self, side: float = 1.0) -> None:
        self.side = side
"""


class OneArgument(UserCode):
    leading = 1


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that is on the path and not yet imported."""
    (tmp_path / "own_things.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_things"
    sys.modules.pop("own_things", None)


def code(reference, **options):
    return validate(OneArgument, {"name": "code", "code": reference, "options": options}, source="test")


def length(values):
    return len(values)


def test_a_reference_can_stand_alone_or_with_options_or_be_the_function_itself():
    full = {"name": "code", "code": "own:half"}
    assert as_code("own:half") == full
    assert as_code({"name": "own:half", "share": 0.3}) == {**full, "options": {"share": 0.3}}
    assert as_code({**full, "options": {"share": 0.3}}) == {**full, "options": {"share": 0.3}}
    assert as_code(length) == {"name": "code", "code": f"{__name__}:length"}
    assert as_code({"name": length, "kr": 1, "x": 2}, keep=["kr"])["kr"] == 1
    for other in (None, "greedy", {"name": "greedy"}, {"share": 1}):
        assert as_code(other) == other


@pytest.mark.parametrize("reference", ["half", "own:", ":half", "own:half:x", "own half:x", "os.system('x'):y"])
def test_what_is_no_reference_is_refused(reference):
    with pytest.raises(ConfigError, match="expected module:name, such as my_module:half"):
        code(reference)


def test_reading_a_reference_imports_nothing(module):
    choice = code(f"{module}:scale", factor=2)
    assert file_of(choice, sys.path).name == "own_things.py"
    assert module not in sys.modules
    assert choice.bind("loss")(10) == 20
    assert module in sys.modules


def test_options_go_to_the_function_by_name_and_in_its_types(module):
    assert code(f"{module}:scale", factor="2.5", times=2).bind("loss")(1) == 5.0
    box = validate(UserCode, {"name": "code", "code": f"{module}:Box", "options": {"side": 3}}, source="test")
    assert box.bind("regime")().side == 3.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"loss \(own_things:scale\): the key 'factor' is missing"),
        ({"factor": 1, "tims": 2}, r"unknown key 'tims'. Did you mean 'times'\?"),
        ({"factor": "much"}, r"factor: Input should be a valid number.*\(received \"much\"\)"),
        ({"factor": 1, "seed": 3}, r"unknown key 'seed'"),
        ({"factor": 1, "values": 3}, r"unknown key 'values'"),
    ],
)
def test_options_that_do_not_fit_are_refused(module, options, message):
    with pytest.raises(ConfigError, match=message):
        code(f"{module}:scale", **options).bind("loss")


class Halves:
    def __call__(self, values):
        return values / 2


@pytest.mark.parametrize(
    ("value", "kind"), [(functools.partial(length), "partial"), (Halves(), "Halves"), (str.upper, "method_descriptor")]
)
def test_what_can_be_called_and_has_no_name_is_refused(value, kind):
    with pytest.raises(
        ConfigError, match=f"one: {kind} has no name of its own in a module. Give a function or a class"
    ):
        validate(Door, {"one": value}, source="test")


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"first_token": "<s>"}, "first_token"),
        ({"stop_secret": 3}, "stop_secret"),
        ({"model": {"prefix_token": ["a"]}}, "model.prefix_token"),
        ({"urls": ["http://user:pass@host/x"]}, "urls.0"),
    ],
)
def test_an_option_that_records_would_hide_is_refused(options, key):
    with pytest.raises(ConfigError, match=rf"options: {key} is taken for a credential, .* Rename it"):
        code("own:half", **options)


def test_numbers_of_tokens_and_special_tokens_are_options_like_any():
    options = {"prefix_token": 50256, "max_tokens": 8, "pad_token": "<pad>", "mask": "token", "access_token": ""}
    assert code("own:half", **options).options == options


@pytest.mark.parametrize("learner", [{"learner": "user", "id": "a", "version": "1"}, {"learner": "own:build"}])
def test_options_of_a_learner_of_ones_own_are_checked_alike(learner):
    with pytest.raises(ConfigError, match=r"options: first_token is taken for a credential"):
        lab.load({"arms": {"one": {**learner, "options": {"first_token": "<s>"}}}})


def test_what_is_not_there_is_named(module):
    with pytest.raises(ConfigError, match=r"loss: own_things has no 'scael'. Did you mean 'scale'\?"):
        code(f"{module}:scael").bind("loss")
    with pytest.raises(ConfigError, match="loss: own_things:NUMBER is int, not a function or a class"):
        code(f"{module}:NUMBER").bind("loss")
    with pytest.raises(ConfigError, match=r"there is no module 'nowhere'. Put nowhere.py beside the configuration"):
        code("nowhere:half").bind("loss")
    assert file_of(code("nowhere:half"), sys.path) is None


def test_an_error_inside_the_module_names_the_module_and_the_line(tmp_path, monkeypatch):
    (tmp_path / "broken_things.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    message = (
        r"the import of broken_things raised ModuleNotFoundError: No module named 'no_such_package' \(.*, line 1\)"
    )
    with pytest.raises(CodeError, match=message):
        code("broken_things:half").bind("loss")


@pytest.mark.parametrize("reference", ["os:system", "math:exp"])
def test_a_function_that_is_not_written_in_python_is_refused(reference):
    with pytest.raises(ConfigError, match=rf"loss: {reference} is not written in Python.* Call it in a function"):
        code(reference).bind("loss")


def test_the_source_is_hashed_by_its_content(module, tmp_path):
    choice = code(f"{module}:scale", factor=1)
    first = source_hash(choice, "loss")
    (tmp_path / "own_things.py").write_text(MODULE + "# changed\n")
    assert source_hash(choice, "loss") != first
    with pytest.raises(ConfigError, match="the module of sys:exit has no source file"):
        source_hash(code("sys:exit"), "loss")


class Door(Settings):
    one: Annotated[UserCode, BeforeValidator(as_code)]


class Inner(Settings):
    one: UserCode
    many: tuple[UserCode, ...] = ()


def test_all_code_below_settings_is_listed_by_its_key():
    choice = UserCode(name="code", code="own:half")
    assert [key for key, _ in codes_in(Inner(one=choice, many=(choice, choice)))] == ["one", "many.0", "many.1"]
