"""The learner `flow`: from points or images to a velocity field, and the subject that the laboratory studies."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tailkeep.lab.flow.field import Field, carry, log_density
from tailkeep.lab.flow.settings import FlowStudy, LikelyCut, LossCut
from tailkeep.lab.flow.training import new_field, train
from tailkeep.lab.numbers import Floats, Numbers
from tailkeep.lab.protocols import Measurement, Subject
from tailkeep.lab.spaces.building import build_space
from tailkeep.lab.spaces.cuts import left_out
from tailkeep.lab.spaces.gallery import Gallery
from tailkeep.lab.spaces.networks import load_network, noise_of, save_network
from tailkeep.lab.spaces.plane import Plane
from tailkeep.lab.spaces.space import Space
from tailkeep.lab.spaces.training import device_of


@dataclass(frozen=True)
class FlowModel:
    """A trained field of one generation, and the space that it draws in."""

    field: Field
    space: Space
    solver_steps: int
    facts: Mapping[str, float]

    def sample(self, n: int, *, seed: int) -> Any:
        """`n` examples carried from noise."""
        device = next(self.field.parameters()).device
        parts = noise_of(n, self.field.dimension, seed=seed, device=device)
        return self.space.decode(torch.cat([carry(self.field, part, steps=self.solver_steps).cpu() for part in parts]))

    def regenerate(self, data: Any, *, seed: int) -> Any:
        """As many fresh examples as `data` has: a point carries no prompt."""
        return self.sample(len(data), seed=seed)

    def log_density(self, points: Numbers, plane: Plane) -> Floats:
        """(n,) ln p of `points` in the plane's own unit, in nats."""
        device = next(self.field.parameters()).device
        found = log_density(self.field, plane.encode(points).to(device), steps=self.solver_steps)
        return np.asarray(found.cpu().numpy() - plane.dimension * np.log(plane.scale), dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, with the facts in its header."""
        save_network(folder, self.field, self.facts)


@dataclass(frozen=True)
class FlowLearner:
    """Trains a fresh field in each generation."""

    study: FlowStudy
    space: Space
    device: str

    def fit(self, data: Any, *, seed: int, budget: int, previous: FlowModel | None = None) -> FlowModel:  # noqa: ARG002
        """A new model from new weights; the predecessor does not enter.

        Raises:
            TailkeepError: the truncation leaves out nothing or all, or the loss is no longer finite.
        """
        trained, facts = train(self.study, self.space.encode(data).to(self.device), budget=budget, seed=seed)
        return FlowModel(trained, self.space, self.study.solver_steps, facts)

    def load(self, folder: Path) -> FlowModel:
        """Read `model.safetensors`."""
        fresh = new_field(self.study, self.space.dimension, seed=0).to(self.device)
        return FlowModel(fresh, self.space, self.study.solver_steps, load_network(folder, fresh))


def build(study: FlowStudy, *, seed: int, device: str, shared: MutableMapping[str, Any]) -> Subject:
    """The recursion of flows that `study` describes; `shared` keeps what other arms and seeds need too.

    Raises:
        InputError: images that cannot be read or used.
        ConfigError: a GPU that is not there, or a truncation that leaves out nothing or all.
    """
    device = device_of(device)
    space = build_space(study, seed=seed, device=device, shared=shared)
    match study.truncate:
        case LossCut(share=share):
            left_out(share, min(study.training.batch, len(space.real)))
        case LikelyCut(share=share):
            left_out(share, len(space.real))
    return Subject(
        name="flow",
        real=space.real,
        learner=FlowLearner(study, space, device),
        views={"common": lambda model, seed: model.sample(space.draws, seed=seed)},
        measure=lambda model, samples: _measure(model, samples["common"], space),
    )


def _measure(model: FlowModel, drawn: Any, space: Plane | Gallery) -> Measurement:
    found = space.measure(drawn)
    if isinstance(space, Gallery):
        return found
    excess = space.excess(model.log_density(space.near, space))
    return Measurement({**found.metrics, "kl_real_model": excess}, found.tables)
