"""Points of the plane, whose real density is known.

Rule: drawn points are compared with as many held-out ones, and their distance is to ten times as many.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tailkeep.lab.mixture import Mixture
from tailkeep.lab.numbers import Floats, ModesWorld, Numbers
from tailkeep.lab.protocols import Measurement
from tailkeep.lab.spaces.moons import MoonsWorld
from tailkeep.metrics import (
    manifold_coverage,
    mode_shares,
    modes_alive,
    precision_recall,
    sliced_wasserstein,
    weight_distance,
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
            "weight_distance": weight_distance(mode_shares(points, world.centres), world.weights),
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
