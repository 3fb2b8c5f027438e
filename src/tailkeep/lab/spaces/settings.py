"""The choices that `flow` and `gan` share: what they learn to draw, and the size of their networks."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tailkeep.config import Settings
from tailkeep.lab.images.settings import Digits, Idx, ImageMeasuring
from tailkeep.lab.numbers import ModesWorld
from tailkeep.lab.spaces.moons import MoonsWorld
from tailkeep.lab.study import Positive, Study

Share = Annotated[float, Field(gt=0, lt=1)]
AboveZero = Annotated[float, Field(gt=0)]


class Network(Settings):
    """Fully connected: `layers` hidden layers of `width` each."""

    width: Positive = 64
    layers: Positive = 3


class SpaceStudy(Study):
    """An arm that learns to draw points or images; `measuring` is of the classifier that images are measured by."""

    data: Annotated[ModesWorld | MoonsWorld | Digits | Idx, Field(discriminator="name")] = ModesWorld()
    network: Network = Network()
    measuring: ImageMeasuring | None = None

    @model_validator(mode="after")
    def _measuring_is_used(self) -> Self:
        if self.measuring is not None and self.in_the_plane:
            raise ValueError("measuring has no effect on points, which are measured without a classifier; leave it out")
        return self

    @property
    def in_the_plane(self) -> bool:
        """Whether its data are points, not images."""
        return isinstance(self.data, ModesWorld | MoonsWorld)
