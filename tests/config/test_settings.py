from pathlib import Path
from typing import Annotated

from pydantic import Field

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


def test_keys_can_be_prefixed():
    assert list(input_paths(Inner(path=Path("a")), "data.")) == [("data.path", Path("a"))]
