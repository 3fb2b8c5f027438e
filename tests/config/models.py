"""A configuration with one of everything: unions by name and by learner, options, lists, mappings, constraints."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tailkeep.config import InputPath, Settings


class Plain(Settings):
    name: Literal["plain"] = "plain"


class Truncated(Settings):
    name: Literal["truncated"] = "truncated"
    threshold: float = Field(0.9, gt=0, lt=1)


class Focal(Settings):
    name: Literal["focal"] = "focal"
    exponent: float = 2.0


Loss = Annotated[Plain | Truncated | Focal, Field(discriminator="name")]


class Text(Settings):
    name: Literal["text"] = "text"
    path: InputPath
    text: str = ""


class World(Settings):
    name: Literal["world"] = "world"
    people: int = 60


class Arm(Settings):
    loss: Loss = Plain()
    note: str = ""


class Small(Settings):
    learner: Literal["small"]
    loss: Loss = Plain()


class Large(Settings):
    learner: Literal["large"]
    device: Literal["small", "cpu"] = "cpu"
    inner: Annotated[Plain | Text, Field(discriminator="name")] = Plain()


class Run(Settings):
    data: Annotated[Text | World, Field(discriminator="name")] = World()
    loss: Loss = Plain()
    extra_loss: Loss | None = None
    arms: dict[str, Arm] = Field(default_factory=dict)
    studies: dict[str, Annotated[Small | Large, Field(discriminator="learner")]] = Field(default_factory=dict)
    stages: tuple[Arm, ...] = ()
    budget: int | World = 10
    regime: Literal["replace", "accumulate"] = "replace"
    seeds: tuple[int, ...] = (0,)
    rate: float = 1e-3
    label: str | None = None
    out: Path | None = None
    hub_token: str | None = None

    @field_validator("seeds")
    @classmethod
    def _at_least_one(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("at least one seed is needed. Write seeds: [0]")
        return seeds
