"""The learner `flow`: from points or images to a velocity field, and the subject that the laboratory studies."""

import copy
import math
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tailkeep.lab.generative.config import FlowArm, FlowTraining, LikelyCut, LossCut
from tailkeep.lab.generative.spaces import Gallery, Plane, Space, build_space
from tailkeep.lab.generative.training import (
    batches_of,
    device_of,
    falling,
    kept_examples,
    load_network,
    noise_of,
    refuse_broken,
    save_network,
    steps_of,
    truncated_count,
)
from tailkeep.lab.protocols import Experiment, Measurement
from tailkeep.lab.toy_data import Floats, Numbers

# A velocity field that carries noise to data, and the path along it (Lipman et al. 2023, arXiv 2210.02747).
#
#     x_t = (1 - t) z + t x        z: noise, x: an example, t from 0 to 1; the field learns E[x - z | x_t]
#
# It is the probability-flow ODE of the diffusion model whose noise has the standard deviation (1 - t) beside t x.
#
# legend: n examples, d numbers each


_FREQUENCIES = 8
_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)


class VelocityField(nn.Module):
    """(n, d) places and (n,) times -> (n, d) velocities, by a fully connected network with SiLU."""

    def __init__(self, dimension: int, *, width: int, layers: int) -> None:
        super().__init__()
        self.dimension = dimension
        sizes = [dimension + 2 * _FREQUENCIES, *[width] * layers]
        hidden = (module for i, o in pairwise(sizes) for module in (nn.Linear(i, o), nn.SiLU()))
        self.network = nn.Sequential(*hidden, nn.Linear(width, dimension))

    def forward(self, places: Tensor, times: Tensor) -> Tensor:
        """The velocities; time enters as cosines and sines of k π t."""
        angles = math.pi * times[:, None] * torch.arange(1, 1 + _FREQUENCIES, device=times.device)
        velocities: Tensor = self.network(torch.cat([places, angles.cos(), angles.sin()], dim=1))
        return velocities


def squared_errors(field: VelocityField, examples: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """|field(x_t, t) - (x - z)|² of each example, mean over its times.

    Args:
        field: the velocity field.
        examples: (n, d) of data.
        noise: (k, n, d) standard normal, one draw for each of k times.
        times: (k, n) in 0..1.

    Returns:
        (n,) in squared units of the data.
    """
    mixed = torch.lerp(noise, examples.expand_as(noise), times[..., None])
    found: Tensor = field(mixed.flatten(0, 1), times.flatten()).view_as(noise)
    return (found - (examples - noise)).square().sum(dim=2).mean(dim=0)


def carry(field: VelocityField, noise: Tensor, *, steps: int) -> Tensor:
    """(n, d) noise carried to data by the midpoint rule in `steps` equal steps, detached."""
    with torch.no_grad():
        places = noise
        for step in range(steps):
            places = _midpoint(lambda x, t: field(x, _filled(x, t)), places, step / steps, 1 / steps)
        return places


def log_density(field: VelocityField, examples: Tensor, *, steps: int) -> Tensor:
    """ln p of `examples` (n, d) in nats, float64, detached: the path back to noise and the divergence along it.

    ln p(x_1) = ln N(x_0) - ∫ div v dt (Chen et al. 2018, arXiv 1806.07366, equation 8), in float64 and with the exact
    divergence, which takes d backward passes a step.
    """
    exact = copy.deepcopy(field).double()

    def velocity(state: Tensor, time: float) -> Tensor:
        places = state[:, :-1].detach().requires_grad_()
        with torch.enable_grad():
            velocities = exact(places, _filled(places, time))
            parts = [
                torch.autograd.grad(velocities[:, i].sum(), places, retain_graph=True)[0][:, i]
                for i in range(field.dimension)
            ]
        return torch.cat([velocities.detach(), torch.stack(parts).sum(dim=0)[:, None]], dim=1)

    none_yet = torch.zeros(len(examples), 1, dtype=torch.float64, device=examples.device)
    state = torch.cat([examples.double(), none_yet], dim=1)
    for step in range(steps):
        state = _midpoint(velocity, state, 1 - step / steps, -1 / steps)
    noise, back = state[:, :-1], state[:, -1]
    # Backwards in time the divergence is added up with its sign turned.
    return -0.5 * noise.square().sum(dim=1) - field.dimension * _LOG_ROOT_2PI + back


def _midpoint(velocity: Callable[[Tensor, float], Tensor], state: Tensor, time: float, step: float) -> Tensor:
    half = state + 0.5 * step * velocity(state, time)
    return state + step * velocity(half, time + 0.5 * step)


def _filled(places: Tensor, time: float) -> Tensor:
    return torch.full((len(places),), time, dtype=places.dtype, device=places.device)


# Training of one flow: as many steps for every arm, whatever the size of its training set and whatever is left out.


def train(study: FlowArm, examples: Tensor, *, budget: int, seed: int) -> tuple[VelocityField, dict[str, float]]:
    """A new field of `examples` (n, d), and facts about its training.

    Raises:
        ConfigError: the truncation leaves out nothing, or all.
        TrainingError: the loss is no longer finite.
    """
    cut, whole = study.truncate, len(examples)
    if isinstance(cut, LikelyCut):
        examples = examples[_less_likely(study, cut, examples, budget, seed)]
    in_batches = cut if isinstance(cut, LossCut) else None
    field = _new(study, examples, seed)
    facts = _train(field, examples, study.training, in_batches, budget=budget, seed=seed)
    return field, {**facts, "kept_fraction": facts["kept_fraction"] * len(examples) / whole}


def new_velocity_field(study: FlowArm, dimension: int, *, seed: int) -> VelocityField:
    """Fresh weights; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VelocityField(dimension, width=study.network.width, layers=study.network.layers)


def _less_likely(study: FlowArm, cut: LikelyCut, examples: Tensor, budget: int, seed: int) -> Tensor:
    """(n,) boolean: all but the examples that a plain flow finds likeliest."""
    generator = torch.Generator(examples.device).manual_seed(seed)
    losses = torch.zeros(len(examples), device=examples.device)
    if cut.control is None:
        plain = _new(study, examples, seed)
        _train(plain, examples, study.training, None, budget=budget, seed=seed)
        losses = -log_density(plain, examples, steps=study.solver_steps)
    return kept_examples(losses, share=cut.share, at_random=cut.control == "random", generator=generator)


def _train(
    field: VelocityField, examples: Tensor, training: FlowTraining, cut: LossCut | None, *, budget: int, seed: int
) -> dict[str, float]:
    device, times = examples.device, training.times
    generator = torch.Generator(device).manual_seed(seed)
    batch = min(training.batch, len(examples))
    steps = steps_of(epochs=training.epochs, budget=budget, batch=batch)
    adam = torch.optim.Adam(field.parameters(), lr=training.learning_rate)
    rate = falling(adam, steps)
    loss, kept = torch.zeros((), device=device), torch.zeros((), device=device)
    parts = torch.arange(times, device=device)
    for found in batches_of(examples, size=batch, steps=steps, seed=seed):
        noise = torch.randn(times, *found.shape, generator=generator, device=device)
        # The same times for all examples of a batch: losses of different times do not compare.
        asked = (parts + torch.rand((), generator=generator, device=device)) / times
        losses = squared_errors(field, found, noise, asked[:, None].expand(times, batch))
        stay = torch.ones_like(losses, dtype=torch.bool)
        if cut:
            stay = kept_examples(losses, share=cut.share, at_random=cut.control == "random", generator=generator)
        adam.zero_grad()
        (losses * stay).mean().backward()
        adam.step()
        rate.step()
        loss += losses.detach().mean() / steps
        kept += stay.sum()
    refuse_broken(float(loss), training.learning_rate)
    return {
        "train_units": float(steps * batch),
        "train_steps": float(steps),
        "train_loss": float(loss),
        "kept_fraction": float(kept) / (steps * batch),
    }


def _new(study: FlowArm, examples: Tensor, seed: int) -> VelocityField:
    return new_velocity_field(study, examples.shape[1], seed=seed).to(examples.device)


@dataclass(frozen=True)
class FlowModel:
    """A trained field of one generation, and the space that it draws in."""

    field: VelocityField
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

    study: FlowArm
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
        fresh = new_velocity_field(self.study, self.space.dimension, seed=0).to(self.device)
        return FlowModel(fresh, self.space, self.study.solver_steps, load_network(folder, fresh))


def build(study: FlowArm, *, seed: int, device: str, shared: MutableMapping[str, Any]) -> Experiment:
    """The recursion of flows that `study` describes; `shared` keeps what other arms and seeds need too.

    Raises:
        InputError: images that cannot be read or used.
        ConfigError: a GPU that is not there, or a truncation that leaves out nothing or all.
    """
    device = device_of(device)
    space = build_space(study, seed=seed, device=device, shared=shared)
    match study.truncate:
        case LossCut(share=share):
            truncated_count(share, min(study.training.batch, len(space.real)))
        case LikelyCut(share=share):
            truncated_count(share, len(space.real))
    return Experiment(
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
