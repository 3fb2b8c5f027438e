"""Points of the plane, whose real density is known.

Rule: drawn points are compared with as many held-out ones, and their distance is to ten times as many.
"""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tailkeep.lab.generative.config import ImageEvaluation, SpaceArm
from tailkeep.lab.generative.images import Pictures, RealImages, read_images
from tailkeep.lab.generative.measures import Classifier, compared, train_classifier
from tailkeep.lab.mixture import Mixture
from tailkeep.lab.protocols import Measurement
from tailkeep.lab.toy_data import Floats, ModesWorld, MoonsWorld, Numbers
from tailkeep.metrics import (
    manifold_coverage,
    mode_shares,
    modes_alive,
    precision_recall,
    sliced_wasserstein,
    total_variation,
)

_SHOWN = 600
_HELD_OUT = 1000  # beyond the numbers of the phases
_MORE = 10


@dataclass(frozen=True)
class Plane:
    """A world of points, with real and held-out ones drawn from it."""

    world: ModesWorld | MoonsWorld
    real: Numbers
    held_out: Numbers
    dimension: int = 2
    bounded: bool = False

    @property
    def draws(self) -> int:
        """As many as there are real points."""
        return len(self.real)

    @property
    def near(self) -> Numbers:
        """As many of the held-out points."""
        return self.held_out.take(np.arange(self.draws))

    @property
    def centre(self) -> Floats:
        """(2,): the mean of the real points."""
        return np.asarray(self.real.values.mean(axis=0), dtype=np.float64)

    @property
    def scale(self) -> float:
        """The standard deviation of the real points around their centre, over both axes."""
        return float(np.sqrt(self.real.values.var(axis=0).mean()))

    def encode(self, data: Numbers) -> Tensor:
        """Centred and divided by the scale."""
        return torch.from_numpy((data.values - self.centre) / self.scale).float()

    def decode(self, numbers: Tensor) -> Numbers:
        """Back in the plane, float64."""
        return Numbers(numbers.double().cpu().numpy() * self.scale + self.centre)

    def measure(self, drawn: Numbers) -> Measurement:
        """Modes, precision, recall, coverage, and the distance to the real density."""
        world, points = self.world, drawn.values
        reach = world.reach if isinstance(world, MoonsWorld) else 3 * world.std
        near = self.near.values
        precision, recall = precision_recall(near, points)
        metrics = {
            "modes_alive": float(modes_alive(points, world.centres, world.weights, radius=reach)),
            "modes_total": float(world.modes),
            "weight_distance": total_variation(mode_shares(points, world.centres), world.weights),
            "sliced_wasserstein": sliced_wasserstein(points, self.held_out.values),
            "precision": precision,
            "recall": recall,
            "coverage": manifold_coverage(near, points),
        }
        return Measurement(metrics, {"points": _columns(points[:_SHOWN]), "centres": _columns(world.centres)})

    def excess(self, log_density: Floats) -> float:
        """KL(real ‖ model) in nats, estimated on the points `near`, at which the model has `log_density` (n,)."""
        return float((true_log_density(self.world, self.near.values) - log_density).mean())


def draw_plane(world: ModesWorld | MoonsWorld, *, seed: int) -> Plane:
    """Real points drawn with `seed`, and others held out."""
    # Not [seed, 1], which numpy pads with zeros into the seed of the first writing (`recursion.phase_seed`).
    other = int(np.random.SeedSequence([seed, 0, _HELD_OUT]).generate_state(1)[0])
    return Plane(world, world.draw(seed), world.model_copy(update={"size": _MORE * world.size}).draw(other))


def true_log_density(world: ModesWorld | MoonsWorld, points: Floats) -> Floats:
    """(n,) ln p of `points` (n, 2) under the world itself, in nats."""
    fine = world.fine() if isinstance(world, MoonsWorld) else world
    spread = np.broadcast_to(world.std**2 * np.eye(2), (fine.modes, 2, 2))
    return Mixture(fine.weights, fine.centres, spread).log_density(points)


def _columns(points: Floats) -> Mapping[str, list[float]]:
    return {"x": points[:, 0].tolist(), "y": points[:, 1].tolist()}


# Grey images as vectors, measured in the features of a classifier of real ones.
#
# Rule: the classifier has seen real images only, and all arms and seeds of a run share it.


@dataclass(frozen=True)
class Gallery:
    """Real images; the classifier is a function, since it is trained only when a first generation is measured."""

    images: RealImages
    classifier: Callable[[], Classifier]
    bounded: bool = True

    @property
    def real(self) -> Pictures:
        """The real training images."""
        return self.images.train

    @property
    def held_out(self) -> Pictures:
        """The images to measure by."""
        return self.images.held_out

    @property
    def dimension(self) -> int:
        """Pixels."""
        height, width = self.real.size
        return height * width

    @property
    def draws(self) -> int:
        """As many as are held out."""
        return len(self.held_out)

    def encode(self, data: Pictures) -> Tensor:
        """Black as -1, white as 1."""
        return torch.from_numpy(data.values).flatten(1).float() / 127.5 - 1

    def decode(self, numbers: Tensor) -> Pictures:
        """Rounded to 8 bits; what lies beyond black or white becomes that."""
        greys = ((numbers.cpu() + 1) * 127.5).round().clamp(0, 255)
        return Pictures(greys.byte().view(-1, *self.real.size).numpy())

    def measure(self, drawn: Pictures) -> Measurement:
        """Fréchet distance, precision, recall, coverage and classes."""
        classifier = self.classifier()
        features, real_features = classifier.features(drawn), classifier.features(self.held_out)
        coverage = manifold_coverage(real_features, features)
        return Measurement({**compared(features, real_features, self.images, classifier), "coverage": coverage})


# What a learner needs to know of what it draws: how it lies in numbers of about unit size, and how it is measured.


class Space(Protocol):
    """Points or images. The scale is that of the real training data, the same in all generations."""

    @property
    def real(self) -> Any:
        """The real training data."""
        ...

    @property
    def held_out(self) -> Any:
        """Real data to measure by."""
        ...

    @property
    def dimension(self) -> int:
        """How many numbers an example has."""
        ...

    @property
    def bounded(self) -> bool:
        """Whether every number lies in -1..1."""
        ...

    @property
    def draws(self) -> int:
        """How many examples of a model are measured."""
        ...

    def encode(self, data: Any) -> Tensor:
        """`data` as (n, dimension), float32."""
        ...

    def decode(self, numbers: Tensor) -> Any:
        """(n, dimension) numbers as data."""
        ...

    def measure(self, drawn: Any) -> Measurement:
        """`drawn` against the held-out data."""
        ...


# From the data that a study names to the space it draws in; what costs is made once and shared by all arms.


def build_space(study: SpaceArm, *, seed: int, device: str, shared: MutableMapping[str, Any]) -> Plane | Gallery:
    """The space of `study.data`, points drawn with `seed` or images as they are.

    Raises:
        InputError: images that cannot be read or used.
    """
    if isinstance(study.data, ModesWorld | MoonsWorld):
        return draw_plane(study.data, seed=seed)
    data, steps = study.data, (study.evaluation or ImageEvaluation()).classifier_steps
    source = study.model_dump_json(include={"data"})
    images = _once(shared, f"images {source}", lambda: read_images(data))
    return Gallery(
        images,
        lambda: _once(
            shared, f"classifier {steps} {source}", lambda: train_classifier(images, steps=steps, device=device)
        ),
    )


def _once(shared: MutableMapping[str, Any], key: str, make: Callable[[], Any]) -> Any:
    if key not in shared:
        shared[key] = make()
    return shared[key]
