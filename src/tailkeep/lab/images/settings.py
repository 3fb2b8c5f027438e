"""The choices of a study with an autoencoder of images: data, network, training, truncation."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tailkeep.config import InputPath, Settings
from tailkeep.lab.study import Positive, Study

Count = Annotated[int, Field(ge=10)]


class Digits(Settings):
    """scikit-learn's 1,797 digits of 8 x 8 pixels and 17 greys. The last `held_out` of them are kept for measuring."""

    name: Literal["digits"] = "digits"
    held_out: Annotated[int, Field(ge=10, le=1700)] = 597


class IdxFiles(Settings):
    """Images and their labels in idx files, plain or .gz; `take` reads the first so many, or all if not given."""

    images: InputPath
    labels: InputPath
    take: Count | None = None


class Idx(IdxFiles):
    """Real data from idx files such as MNIST's; held out for measuring are its last `held_out` images, or `test`."""

    name: Literal["idx"]
    held_out: Count | None = None
    test: IdxFiles | None = None

    @model_validator(mode="after")
    def _held_out_once(self) -> Self:
        if (self.held_out is None) == (self.test is None):
            how = "has no effect beside test" if self.test else "or test is needed to measure on"
            raise ValueError(f"held_out {how}. Give one of data.held_out and data.test")
        return self


class Network(Settings):
    """Two convolutions of `channels` and twice as many channels, each halving the image; `latent` numbers between."""

    channels: Positive = 64
    latent: Positive = 20


class ImageTraining(Settings):
    """Adam on the sum of a batch's losses; `epochs` count passes over the stage's budget of real images."""

    batch: Positive = 256
    epochs: Annotated[float, Field(gt=0)] = 30
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5


class ImageMeasuring(Settings):
    """The classifier of real images that measures drawn ones trains for `classifier_steps` batches of 64."""

    classifier_steps: Positive = 1000


class PixelCut(Settings):
    """Leave pixels out of the reconstruction whose likelihood under the decoder exceeds `threshold`.

    A pixel of grey x in 0..1 decoded as y has the likelihood y^x (1 - y)^(1 - x), of which only black and white ones
    reach 1. `at_random` leaves out as many pixels of each batch, but any: the control.
    """

    name: Literal["pixels"]
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.99
    at_random: bool = False


class SampleCut(Settings):
    """Leave the `share` of each batch's images out of the loss that have the highest evidence bound.

    `at_random` leaves out as many images, but any: the control.
    """

    name: Literal["samples"]
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    at_random: bool = False


AnyCut = Annotated[PixelCut | SampleCut, Field(discriminator="name")]


class VAEStudy(Study):
    """An arm whose learner is a convolutional variational autoencoder, trained anew in every generation."""

    learner: Literal["vae"]
    data: Annotated[Digits | Idx, Field(discriminator="name")] = Digits()
    network: Network = Network()
    training: ImageTraining = ImageTraining()
    truncate: AnyCut | None = None
    measuring: ImageMeasuring = ImageMeasuring()
