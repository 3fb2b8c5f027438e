"""The spaces in which `flow` and `gan` generate: points of the plane, or grey images as vectors.

A space encodes real data as numbers of about unit size, decodes generated numbers, and measures what they became.
Rule: the encoding is that of the real training data, the same in all generations.
"""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailkeep.lab.generative.config import ImageEvaluation, SpaceArm, VAEArm
from tailkeep.lab.generative.images import Images, RealImages, read_images
from tailkeep.lab.generative.measures import Classifier, class_tail, compare_features, train_classifier
from tailkeep.lab.mixture import Mixture
from tailkeep.lab.protocols import Measurement
from tailkeep.lab.toy_data import ArrayData, Floats, ModesWorld, MoonsWorld, held_out_seed, mode_tables
from tailkeep.metrics import (
    manifold_coverage,
    mode_shares,
    modes_alive,
    precision_recall,
    sliced_wasserstein,
    total_variation,
)

_HELD_OUT_RATIO = 10


@dataclass(frozen=True)
class PointSpace:
    """A world of points, with real and held-out ones. The density of the world is known.

    `sliced_wasserstein` is to all held-out points; the other measures use as many of them as there are real points.
    """

    world: ModesWorld | MoonsWorld
    real: ArrayData
    held_out: ArrayData
    dimension: int = 2
    bounded: bool = False

    @property
    def num_samples(self) -> int:
        """As many as there are real points."""
        return len(self.real)

    @property
    def reference(self) -> ArrayData:
        """As many of the held-out points."""
        return self.held_out.take(np.arange(self.num_samples))

    @property
    def centre(self) -> Floats:
        """(2,): the mean of the real points."""
        return np.asarray(self.real.values.mean(axis=0), dtype=np.float64)

    @property
    def scale(self) -> float:
        """The standard deviation of the real points around their centre, over both axes."""
        return float(np.sqrt(self.real.values.var(axis=0).mean()))

    def encode(self, data: ArrayData) -> Tensor:
        """Centred and divided by the scale."""
        return torch.from_numpy((data.values - self.centre) / self.scale).float()

    def decode(self, coordinates: Tensor) -> ArrayData:
        """In the plane again, float64."""
        return ArrayData(coordinates.double().cpu().numpy() * self.scale + self.centre)

    def measure(self, samples: ArrayData) -> Measurement:
        """Modes, precision, recall, coverage, and the distance to the real density."""
        world, points, reference = self.world, samples.values, self.reference.values
        precision, recall = precision_recall(reference, points)
        metrics = {
            "modes_alive": float(modes_alive(points, world.centres, world.weights, radius=world.reach)),
            "modes_total": float(world.modes),
            "weight_distance": total_variation(mode_shares(points, world.centres), world.weights),
            "sliced_wasserstein": sliced_wasserstein(points, self.held_out.values),
            "precision": precision,
            "recall": recall,
            "coverage": manifold_coverage(reference, points),
        }
        return Measurement(metrics, mode_tables(points, world))

    def kl_divergence(self, log_density: Floats) -> float:
        """KL(real ‖ model) in nats, estimated on `reference`, where the model has `log_density` (n,)."""
        return float((true_log_density(self.world, self.reference.values) - log_density).mean())


def sample_point_space(world: ModesWorld | MoonsWorld, *, seed: int) -> PointSpace:
    """Real points of `seed`, and ten times as many held-out ones."""
    more = world.model_copy(update={"size": _HELD_OUT_RATIO * world.size})
    return PointSpace(world, world.draw(seed), more.draw(held_out_seed(seed)))


def true_log_density(world: ModesWorld | MoonsWorld, points: Floats) -> Floats:
    """(n,) ln p of `points` (n, 2) under the world itself, in nats."""
    modes = world.fine() if isinstance(world, MoonsWorld) else world
    covariances = np.broadcast_to(world.std**2 * np.eye(2), (modes.modes, 2, 2))
    return Mixture(modes.weights, modes.centres, covariances).log_density(points)


@dataclass(frozen=True)
class ImageSpace:
    """Real images; the classifier is a function, since it is trained at the first measurement of a generation."""

    images: RealImages
    classifier: Callable[[], Classifier]
    bounded: bool = True

    @property
    def real(self) -> Images:
        """The real training images."""
        return self.images.train

    @property
    def held_out(self) -> Images:
        """The images for evaluation."""
        return self.images.held_out

    @property
    def dimension(self) -> int:
        """Pixels."""
        height, width = self.real.size
        return height * width

    @property
    def num_samples(self) -> int:
        """As many as are held out."""
        return len(self.held_out)

    def encode(self, data: Images) -> Tensor:
        """Black as -1, white as 1."""
        return torch.from_numpy(data.values).flatten(1).float() / 127.5 - 1

    def decode(self, coordinates: Tensor) -> Images:
        """Rounded to 8 bits and clamped to black and white."""
        greys = ((coordinates.cpu() + 1) * 127.5).round().clamp(0, 255)
        return Images(greys.byte().view(-1, *self.real.size).numpy())

    def measure(self, samples: Images) -> Measurement:
        """Fréchet distance, precision, recall, coverage and classes."""
        classifier = self.classifier()
        features, real_features = classifier.features(samples), classifier.features(self.held_out)
        coverage = manifold_coverage(real_features, features)
        metrics = {**compare_features(features, real_features, self.images, classifier), "coverage": coverage}
        return Measurement(metrics, {"tail": class_tail(features, self.images, classifier)})


Space = PointSpace | ImageSpace


def build_space(config: SpaceArm, *, seed: int, device: str, shared: MutableMapping[str, Any]) -> Space:
    """The space of `config.data`: points of `seed`, or images.

    Raises:
        InputError: images that are not readable or not usable.
    """
    if isinstance(config.data, ModesWorld | MoonsWorld):
        return sample_point_space(config.data, seed=seed)
    return build_image_space(config, device=device, shared=shared)


def build_image_space(config: SpaceArm | VAEArm, *, device: str, shared: MutableMapping[str, Any]) -> ImageSpace:
    """The images of `config.data`; arms and seeds that have the same `shared` share them and their classifier.

    Raises:
        InputError: images that are not readable or not usable.
    """
    data, steps = config.data, (config.evaluation or ImageEvaluation()).classifier_steps
    assert not isinstance(data, ModesWorld | MoonsWorld), "points are no images"
    source = config.model_dump_json(include={"data"})
    images = compute_once(shared, f"images {source}", lambda: read_images(data))

    def classifier() -> Classifier:
        return train_classifier(images, steps=steps, device=device)

    return ImageSpace(images, lambda: compute_once(shared, f"classifier {steps} {source}", classifier))


def compute_once(shared: MutableMapping[str, Any], key: str, compute: Callable[[], Any]) -> Any:
    """The value of `key`, computed and stored in `shared` the first time."""
    if key not in shared:
        shared[key] = compute()
    return shared[key]
