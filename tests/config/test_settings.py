from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from tailkeep.config import InputPath, Settings, input_paths
from tests.config.models import Text, World


class Inner(Settings):
    path: InputPath
    cache: Path = Path("cache")


class Many(Settings):
    plain: Path = Path("not-an-input")
    whole: InputPath
    optional: InputPath | None = None
    absent: InputPath | None = None
    several: tuple[InputPath, ...] = ()
    named: dict[str, InputPath] = Field(default_factory=dict)
    either: Annotated[Text | World, Field(discriminator="name")] = World()
    number_or_path: int | InputPath = 3
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()
    constrained: Annotated[InputPath | None, Field(description="words")] = None


def test_every_input_path_is_found_under_its_dotted_key():
    many = Many(
        whole=Path("a"),
        optional=Path("b"),
        several=(Path("c"), Path("d")),
        named={"train": Path("e")},
        either=Text(path=Path("f")),
        number_or_path=Path("g"),
        inner=Inner(path=Path("h")),
        inners=(Inner(path=Path("i")),),
        constrained=Path("j"),
    )
    assert {key: str(path) for key, path in input_paths(many)} == {
        "whole": "a",
        "optional": "b",
        "several.0": "c",
        "several.1": "d",
        "named.train": "e",
        "either.path": "f",
        "number_or_path": "g",
        "inner.path": "h",
        "inners.0.path": "i",
        "constrained": "j",
    }


def test_a_path_that_is_not_given_or_not_an_input_is_not_listed():
    assert [key for key, _ in input_paths(Many(whole=Path("a")))] == ["whole"]


class Numbers(Settings):
    share: float = 0.5
    seeds: tuple[int, ...] = (0,)
    size: Annotated[int, Field(ge=1)] | None = None
    switch_or_size: bool | int = 3
    anything: dict[str, object] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("key", "value"),
    [("share", True), ("seeds", [True, 2]), ("size", False), ("seeds", (1, False)), ("counts", {"a": True})],
)
def test_a_switch_is_no_number(key, value):
    with pytest.raises(ValidationError, match=rf"{key} is .*(True|False).*, which is no number\. Give a number"):
        Numbers.model_validate({key: value})


def test_a_switch_stays_one_where_it_may_stand():
    numbers = Numbers.model_validate({"switch_or_size": True, "anything": {"on": True}})
    assert (numbers.switch_or_size, numbers.anything) == (True, {"on": True})


def test_keys_can_be_prefixed():
    assert list(input_paths(Inner(path=Path("a")), "data.")) == [("data.path", Path("a"))]
