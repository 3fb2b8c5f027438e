"""The choices of a study with a generative adversarial network: networks, training, truncation."""

from typing import Annotated, Literal

from pydantic import Field

from tailkeep.config import Settings
from tailkeep.lab.spaces.settings import AboveZero, Share, SpaceStudy
from tailkeep.lab.study import Positive


class GANTraining(Settings):
    """Adam for both networks at a rate that falls to 0 along a cosine; `epochs` pass over the stage's budget.

    `penalty` weighs the squared gradients of the discriminator on real and on drawn examples (R1 and R2).
    """

    batch: Positive = 128
    epochs: AboveZero = 100
    learning_rate: AboveZero = 2e-3
    penalty: Annotated[float, Field(ge=0)] = 0.05


class SureCut(Settings):
    """Leave the `share` of a batch out of a network's loss that the discriminator is surest of.

    `of: discriminator`: those that it tells best, so training examples it takes for real and drawn ones it takes for
    drawn. `of: generator`: drawn ones that it takes for real. `at_random` leaves out as many, but any: the control.
    """

    name: Literal["sure"] = "sure"
    of: Literal["discriminator", "generator"]
    share: Share = 0.1
    at_random: bool = False


class GANStudy(SpaceStudy):
    """An arm whose learner is a generator from `latent` normal numbers, trained anew with its discriminator."""

    learner: Literal["gan"]
    latent: Positive = 8
    training: GANTraining = GANTraining()
    truncate: SureCut | None = None
