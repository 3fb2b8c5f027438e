"""The config of arms with the learners `vae`, `flow` and `gan`: data, network, training, truncation.

Rule: a choice that would have no effect is an error.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tailkeep.config import InputPath, Settings
from tailkeep.lab.arm import ArmConfig, Positive
from tailkeep.lab.toy_data import ModesWorld, MoonsWorld

AboveZero = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
ImageCount = Annotated[int, Field(ge=10)]


# Data and networks


class Digits(Settings):
    """scikit-learn's 1,797 digits of 8 x 8 pixels and 17 greys. The last `held_out` of them are for evaluation."""

    name: Literal["digits"] = "digits"
    held_out: Annotated[int, Field(ge=10, le=1700)] = 597


class IdxFiles(Settings):
    """Images and their labels in idx files, plain or .gz; `take` reads the first so many, or all by default.

    Attributes:
        images: the file of images.
        labels: the file of labels.
    """

    images: InputPath
    labels: InputPath
    take: ImageCount | None = None


class Idx(IdxFiles):
    """Real data from idx files such as MNIST's. Evaluation uses the last `held_out` images, or those of `test`."""

    name: Literal["idx"]
    held_out: ImageCount | None = None
    test: IdxFiles | None = None

    @model_validator(mode="after")
    def _held_out_once(self) -> Self:
        if (self.held_out is None) == (self.test is None):
            reason = "has no effect beside test" if self.test else "or test is needed for evaluation"
            raise ValueError(f"held_out {reason}. Give one of data.held_out and data.test")
        return self


class DenseNetwork(Settings):
    """Fully connected: `layers` hidden layers of `width` each."""

    width: Positive = 64
    layers: Positive = 3


class VAENetwork(Settings):
    """Two convolutions of `channels` and 2 x `channels`, each of which halves the image; codes of size `latent`."""

    channels: Positive = 64
    latent: Positive = 20


class ImageEvaluation(Settings):
    """The classifier of real images, which measures generated ones, trains for `classifier_steps` batches of 64."""

    classifier_steps: Positive = 1000


class SpaceArm(ArmConfig):
    """An arm that generates points or images; `evaluation` is of the classifier that measures images.

    Attributes:
        data: the real points or images.
    """

    extra: ClassVar[str] = "images"
    modules: ClassVar[tuple[str, ...]] = ("torch",)
    packages: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "scikit-learn", "torch")
    uses_gpu: ClassVar[bool] = True
    data: Annotated[ModesWorld | MoonsWorld | Digits | Idx, Field(discriminator="name")] = ModesWorld()
    network: DenseNetwork = DenseNetwork()
    evaluation: ImageEvaluation | None = None

    @model_validator(mode="after")
    def _evaluation_has_effect(self) -> Self:
        if self.evaluation is not None and self.in_the_plane:
            raise ValueError("evaluation has no effect on points, whose measures use no classifier. Remove it")
        return self

    @property
    def in_the_plane(self) -> bool:
        """Whether its data are points, not images."""
        return isinstance(self.data, ModesWorld | MoonsWorld)


class ShareTruncation(Settings):
    """Leave the `share` of examples out of the loss in which the model is most confident.

    `control: random` leaves out as many random ones.
    """

    name: str
    share: Fraction = 0.1
    control: Literal["random"] | None = None


# Variational autoencoders


class VAETraining(Settings):
    """Adam on the sum of a batch's losses; `epochs` counts passes over the stage's budget of real images.

    Attributes:
        batch: images per step.
        learning_rate: of Adam.
        weight_decay: an L2 penalty, as in Adam.
    """

    batch: Positive = 256
    epochs: AboveZero = 30
    learning_rate: AboveZero = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5


class PixelTruncation(Settings):
    """Leave pixels out of the reconstruction loss whose likelihood under the decoder exceeds `threshold`.

    A pixel of grey x in 0..1 decoded as y has the likelihood y^x (1 - y)^(1 - x), of which only black and white ones
    reach 1. `control: random` leaves out as many random pixels of each batch.
    """

    name: Literal["pixels"]
    threshold: Fraction = 0.99
    control: Literal["random"] | None = None


class SampleTruncation(ShareTruncation):
    """Leave the `share` of each batch's images with the highest evidence lower bound out of the loss."""

    name: Literal["samples"]


VAETruncation = PixelTruncation | SampleTruncation


class VAEArm(ArmConfig):
    """An arm whose learner is a convolutional variational autoencoder, trained from scratch in every generation.

    Attributes:
        data: the real images.
        truncate: what training leaves out; without it, nothing.
    """

    builder: ClassVar[str] = "generative.vae:build"
    extra: ClassVar[str] = "images"
    modules: ClassVar[tuple[str, ...]] = ("torch",)
    packages: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "scikit-learn", "torch")
    uses_gpu: ClassVar[bool] = True
    learner: Literal["vae"]
    data: Annotated[Digits | Idx, Field(discriminator="name")] = Digits()
    network: VAENetwork = VAENetwork()
    training: VAETraining = VAETraining()
    truncate: Annotated[VAETruncation, Field(discriminator="name")] | None = None
    evaluation: ImageEvaluation = ImageEvaluation()


# Flow matching


class FlowTraining(Settings):
    """Adam with cosine decay to 0; `epochs` counts passes over the stage's budget of real examples.

    The loss of an example is a mean over `times` times, one in each of as many equal intervals of 0..1.

    Attributes:
        batch: examples per step.
        learning_rate: the first one.
    """

    batch: Positive = 128
    epochs: AboveZero = 100
    learning_rate: AboveZero = 1e-2
    times: Positive = 4


class LossTruncation(ShareTruncation):
    """Leave the `share` of each batch's examples with the lowest loss, at the same times, out of the loss."""

    name: Literal["loss"]


class LikelihoodTruncation(ShareTruncation):
    """Train a first flow, leave out the `share` of the training set that it finds most likely, train on the rest.

    The likelihood is that of the flow's ordinary differential equation with its exact divergence: for points only.
    `train_units` does not count the first flow. With `control: random` there is no first flow.
    """

    name: Literal["likely"]


FlowTruncation = LossTruncation | LikelihoodTruncation


class FlowArm(SpaceArm):
    """An arm whose learner is a flow, trained from scratch in every generation and sampled in `solver_steps` steps.

    Attributes:
        truncate: what training leaves out; without it, nothing.
    """

    builder: ClassVar[str] = "generative.flow:build"
    learner: Literal["flow"]
    training: FlowTraining = FlowTraining()
    solver_steps: Positive = 32
    truncate: Annotated[FlowTruncation, Field(discriminator="name")] | None = None

    @model_validator(mode="after")
    def _likelihood_is_cheap(self) -> Self:
        if isinstance(self.truncate, LikelihoodTruncation) and not self.in_the_plane:
            raise ValueError(
                "truncate 'likely' supports points only: a likelihood of images takes one backward pass per pixel. "
                "Use truncate 'loss' for images"
            )
        return self


# Generative adversarial networks


class GANTraining(Settings):
    """Adam with cosine decay to 0 for both networks; `epochs` counts passes over the stage's budget of real examples.

    `penalty` is twice the weight of the discriminator's squared gradients at real and generated examples (R1 and R2).

    Attributes:
        batch: examples per step.
        learning_rate: the first one.
    """

    batch: Positive = 128
    epochs: AboveZero = 100
    learning_rate: AboveZero = 2e-3
    penalty: Annotated[float, Field(ge=0)] = 0.05


class ConfidenceTruncation(ShareTruncation):
    """Leave the `share` of a batch of which the discriminator is most confident out of a network's loss.

    `of: discriminator`: those with the lowest discriminator loss, of training and of generated examples.
    `of: generator`: generated ones that it takes for training examples.
    """

    name: Literal["confident"] = "confident"
    of: Literal["discriminator", "generator"]


class GANArm(SpaceArm):
    """An arm whose learner is a generator from `latent` normal numbers, trained from scratch with a discriminator."""

    builder: ClassVar[str] = "generative.gan:build"
    learner: Literal["gan"]
    latent: Positive = 8
    training: GANTraining = GANTraining()
    truncate: ConfidenceTruncation | None = None
