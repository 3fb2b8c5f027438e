"""The choices of a study with flow matching: network, training, truncation."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tailkeep.config import Settings
from tailkeep.lab.spaces.settings import AboveZero, Share, SpaceStudy
from tailkeep.lab.study import Positive


class FlowTraining(Settings):
    """Adam at a rate that falls to 0 along a cosine; `epochs` count passes over the stage's budget of real examples.

    Each example of a batch is asked about at `times` times, one in each of as many equal parts of 0..1.
    """

    batch: Positive = 128
    epochs: AboveZero = 100
    learning_rate: AboveZero = 1e-2
    times: Positive = 4


class LossCut(Settings):
    """Leave the `share` of each batch's examples out of the loss whose own loss, over the same times, is lowest.

    `at_random` leaves out as many, but any: the control.
    """

    name: Literal["loss"]
    share: Share = 0.1
    at_random: bool = False


class LikelyCut(Settings):
    """Train a plain flow first, leave out the `share` of the training set that it finds likeliest, train on the rest.

    The likelihood is by the flow's ordinary differential equation with its exact divergence: for points only.
    `train_units` does not count the first flow. `at_random`, the control, leaves out as many, but any, and trains once.
    """

    name: Literal["likely"]
    share: Share = 0.1
    at_random: bool = False


AnyFlowCut = Annotated[LossCut | LikelyCut, Field(discriminator="name")]


class FlowStudy(SpaceStudy):
    """An arm whose learner is a flow, trained anew in every generation and drawn from in `solver_steps` steps."""

    learner: Literal["flow"]
    training: FlowTraining = FlowTraining()
    solver_steps: Positive = 32
    truncate: AnyFlowCut | None = None

    @model_validator(mode="after")
    def _likelihood_is_cheap(self) -> Self:
        if isinstance(self.truncate, LikelyCut) and not self.in_the_plane:
            raise ValueError(
                "truncate 'likely' needs a pass per pixel for each likelihood and is offered for points only. "
                "Use truncate 'loss' for images"
            )
        return self
