"""The choices of a study with an autoencoder of images: data, network, training, truncation."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tailkeep.config import InputPath, Settings
from tailkeep.lab.arm import ArmConfig, Positive
from tailkeep.lab.toy_data import ModesWorld, MoonsWorld

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


class VAENetwork(Settings):
    """Two convolutions of `channels` and twice as many channels, each halving the image; `latent` numbers between."""

    channels: Positive = 64
    latent: Positive = 20


class ImageTraining(Settings):
    """Adam on the sum of a batch's losses; `epochs` count passes over the stage's budget of real images."""

    batch: Positive = 256
    epochs: Annotated[float, Field(gt=0)] = 30
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5


class ImageEvaluation(Settings):
    """The classifier of real images that measures drawn ones trains for `classifier_steps` batches of 64."""

    classifier_steps: Positive = 1000


class PixelCut(Settings):
    """Leave pixels out of the reconstruction whose likelihood under the decoder exceeds `threshold`.

    A pixel of grey x in 0..1 decoded as y has the likelihood y^x (1 - y)^(1 - x), of which only black and white ones
    reach 1. `control: random` leaves out as many pixels of each batch, but any: the control.
    """

    name: Literal["pixels"]
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.99
    control: Literal["random"] | None = None


class SampleCut(Settings):
    """Leave the `share` of each batch's images out of the loss that have the highest evidence bound.

    `control: random` leaves out as many images, but any: the control.
    """

    name: Literal["samples"]
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    control: Literal["random"] | None = None


AnyCut = Annotated[PixelCut | SampleCut, Field(discriminator="name")]


class VAEArm(ArmConfig):
    """An arm whose learner is a convolutional variational autoencoder, trained anew in every generation."""

    learner: Literal["vae"]
    data: Annotated[Digits | Idx, Field(discriminator="name")] = Digits()
    network: VAENetwork = VAENetwork()
    training: ImageTraining = ImageTraining()
    truncate: AnyCut | None = None
    evaluation: ImageEvaluation = ImageEvaluation()


# The choices that `flow` and `gan` share: what they learn to draw, and the size of their networks.


Share = Annotated[float, Field(gt=0, lt=1)]
AboveZero = Annotated[float, Field(gt=0)]


class DenseNetwork(Settings):
    """Fully connected: `layers` hidden layers of `width` each."""

    width: Positive = 64
    layers: Positive = 3


class SpaceArm(ArmConfig):
    """An arm that learns to draw points or images; `evaluation` is of the classifier that images are measured by."""

    data: Annotated[ModesWorld | MoonsWorld | Digits | Idx, Field(discriminator="name")] = ModesWorld()
    network: DenseNetwork = DenseNetwork()
    evaluation: ImageEvaluation | None = None

    @model_validator(mode="after")
    def _measuring_is_used(self) -> Self:
        if self.evaluation is not None and self.in_the_plane:
            raise ValueError(
                "evaluation has no effect on points, which are measured without a classifier; leave it out"
            )
        return self

    @property
    def in_the_plane(self) -> bool:
        """Whether its data are points, not images."""
        return isinstance(self.data, ModesWorld | MoonsWorld)


# The choices of a study with flow matching: network, training, truncation.


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

    `control: random` leaves out as many, but any: the control.
    """

    name: Literal["loss"]
    share: Share = 0.1
    control: Literal["random"] | None = None


class LikelyCut(Settings):
    """Train a plain flow first, leave out the `share` of the training set that it finds likeliest, train on the rest.

    The likelihood is by the flow's ordinary differential equation with its exact divergence: for points only.
    `train_units` does not count the first flow. `at_random`, the control, leaves out as many, but any, and trains once.
    """

    name: Literal["likely"]
    share: Share = 0.1
    control: Literal["random"] | None = None


AnyFlowCut = Annotated[LossCut | LikelyCut, Field(discriminator="name")]


class FlowArm(SpaceArm):
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


# The choices of a study with a generative adversarial network: networks, training, truncation.


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
    drawn. `of: generator`: drawn ones that it takes for real. `control: random` leaves out as many random ones.
    """

    name: Literal["sure"] = "sure"
    of: Literal["discriminator", "generator"]
    share: Share = 0.1
    control: Literal["random"] | None = None


class GANArm(SpaceArm):
    """An arm whose learner is a generator from `latent` normal numbers, trained anew with its discriminator."""

    learner: Literal["gan"]
    latent: Positive = 8
    training: GANTraining = GANTraining()
    truncate: SureCut | None = None
