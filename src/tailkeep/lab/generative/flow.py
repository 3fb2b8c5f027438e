"""The learner `flow`: flow matching of points or images (Lipman et al. 2023, arXiv 2210.02747).

A velocity field carries noise to data along straight paths:

    x_t = (1 - t) z + t x        z: noise, x: an example, t from 0 to 1; the field learns E[x - z | x_t]

It is the probability-flow ODE of the diffusion model whose noise has the standard deviation (1 - t) beside t x.
Rule: truncation is decided without gradient, and a truncated flow trains for as many steps.

legend: n examples, d coordinates each
"""

import copy
import math
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tailkeep.lab.device import resolve_device
from tailkeep.lab.generative.config import FlowArm, LikelihoodTruncation, LossTruncation
from tailkeep.lab.generative.spaces import ImageSpace, PointSpace, Space, build_space
from tailkeep.lab.generative.training import (
    NetworkLearner,
    NetworkModel,
    check_finite,
    init_network,
    keep_mask,
    make_schedule,
    noise_chunks,
    truncated_count,
)
from tailkeep.lab.protocols import Experiment, Measurement
from tailkeep.lab.toy_data import ArrayData, Floats

_FREQUENCIES = 8
_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)


class VelocityField(nn.Module):
    """(n, d) positions and (n,) times -> (n, d) velocities, by a fully connected network with SiLU."""

    def __init__(self, dimension: int, *, width: int, layers: int) -> None:
        super().__init__()
        self.dimension = dimension
        sizes = [dimension + 2 * _FREQUENCIES, *[width] * layers]
        hidden = (module for i, o in pairwise(sizes) for module in (nn.Linear(i, o), nn.SiLU()))
        self.network = nn.Sequential(*hidden, nn.Linear(width, dimension))

    def forward(self, positions: Tensor, times: Tensor) -> Tensor:
        """The velocities; time enters as cosines and sines of k π t."""
        angles = math.pi * times[:, None] * torch.arange(1, 1 + _FREQUENCIES, device=times.device)
        velocities: Tensor = self.network(torch.cat([positions, angles.cos(), angles.sin()], dim=1))
        return velocities


def squared_errors(field: VelocityField, examples: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """|field(x_t, t) - (x - z)|² of each example, averaged over its times.

    Args:
        field: the velocity field.
        examples: (n, d) of data.
        noise: (k, n, d) standard normal, one sample for each of k times.
        times: (k, n) in 0..1.

    Returns:
        (n,) in squared units of the data.
    """
    mixed = torch.lerp(noise, examples.expand_as(noise), times[..., None])
    velocities: Tensor = field(mixed.flatten(0, 1), times.flatten()).view_as(noise)
    return (velocities - (examples - noise)).square().sum(dim=2).mean(dim=0)


def integrate(field: VelocityField, noise: Tensor, *, steps: int) -> Tensor:
    """(n, d) noise integrated to data by the midpoint rule in `steps` equal steps, detached."""
    with torch.no_grad():
        state = noise
        for step in range(steps):
            state = _midpoint(lambda x, t: field(x, _constant(x, t)), state, step / steps, 1 / steps)
        return state


def log_density(field: VelocityField, examples: Tensor, *, steps: int) -> Tensor:
    """ln p of `examples` (n, d) in nats, float64, detached: the path back to noise and the divergence along it.

    ln p(x_1) = ln N(x_0) - ∫ div v dt (Chen et al. 2018, arXiv 1806.07366, equation 8), in float64 and with the exact
    divergence, which takes d backward passes a step.
    """
    exact = copy.deepcopy(field).double()

    def velocity(state: Tensor, time: float) -> Tensor:
        positions = state[:, :-1].detach().requires_grad_()
        with torch.enable_grad():
            velocities = exact(positions, _constant(positions, time))
            derivatives = [
                torch.autograd.grad(velocities[:, i].sum(), positions, retain_graph=True)[0][:, i]
                for i in range(field.dimension)
            ]
        return torch.cat([velocities.detach(), torch.stack(derivatives).sum(dim=0)[:, None]], dim=1)

    divergence = torch.zeros(len(examples), 1, dtype=torch.float64, device=examples.device)
    state = torch.cat([examples.double(), divergence], dim=1)
    for step in range(steps):
        state = _midpoint(velocity, state, 1 - step / steps, -1 / steps)
    noise, divergence = state[:, :-1], state[:, -1]
    # Backwards in time the integral of the divergence has the opposite sign.
    return -0.5 * noise.square().sum(dim=1) - field.dimension * _LOG_ROOT_2PI + divergence


def _midpoint(velocity: Callable[[Tensor, float], Tensor], state: Tensor, time: float, step: float) -> Tensor:
    half = state + 0.5 * step * velocity(state, time)
    return state + step * velocity(half, time + 0.5 * step)


def _constant(positions: Tensor, time: float) -> Tensor:
    return torch.full((len(positions),), time, dtype=positions.dtype, device=positions.device)


def init_field(config: FlowArm, dimension: int, *, seed: int, device: str | torch.device) -> VelocityField:
    """A velocity field of fresh weights."""
    size = config.network.model_dump()
    return init_network(lambda: VelocityField(dimension, **size), seed=seed, device=device)


def train(config: FlowArm, examples: Tensor, *, budget: int, seed: int) -> tuple[VelocityField, dict[str, float]]:
    """A new field of `examples` (n, d), and facts about its training.

    Raises:
        ConfigError: truncation leaves out nothing, or all.
        TrainingError: the loss is not finite.
    """
    truncate, total = config.truncate, len(examples)
    if isinstance(truncate, LikelihoodTruncation):
        examples = examples[_less_likely(config, truncate, examples, budget=budget, seed=seed)]
        truncate = None
    field, facts = _train(config, examples, truncate, budget=budget, seed=seed)
    return field, {**facts, "kept_fraction": facts["kept_fraction"] * len(examples) / total}


def _less_likely(
    config: FlowArm, truncate: LikelihoodTruncation, examples: Tensor, *, budget: int, seed: int
) -> Tensor:
    """(n,) boolean: all but the examples that a first flow finds most likely."""
    rng = torch.Generator(examples.device).manual_seed(seed)
    losses = torch.zeros(len(examples), device=examples.device)
    if truncate.control is None:
        first, _ = _train(config, examples, None, budget=budget, seed=seed)
        losses = -log_density(first, examples, steps=config.solver_steps)
    return keep_mask(losses, truncate, rng)


def _train(
    config: FlowArm, examples: Tensor, truncate: LossTruncation | None, *, budget: int, seed: int
) -> tuple[VelocityField, dict[str, float]]:
    training, device, num_times = config.training, examples.device, config.training.times
    field = init_field(config, examples.shape[1], seed=seed, device=device)
    rng = torch.Generator(device).manual_seed(seed)
    schedule = make_schedule(training, len(examples), budget=budget)
    adam = torch.optim.Adam(field.parameters(), lr=training.learning_rate)
    rate = schedule.cosine_decay(adam)
    loss, kept_count = torch.zeros((), device=device), torch.zeros((), device=device)
    intervals = torch.arange(num_times, device=device)
    for batch in schedule.batches(examples, seed=seed):
        noise = torch.randn(num_times, *batch.shape, generator=rng, device=device)
        # The same times for all examples of a batch: losses at different times are not comparable.
        times = (intervals + torch.rand((), generator=rng, device=device)) / num_times
        losses = squared_errors(field, batch, noise, times[:, None].expand(num_times, len(batch)))
        mask = keep_mask(losses, truncate, rng)
        adam.zero_grad()
        (losses * mask).mean().backward()
        adam.step()
        rate.step()
        loss += losses.detach().mean() / schedule.steps
        kept_count += mask.sum()
    check_finite(float(loss), training.learning_rate)
    facts = schedule.facts
    return field, {**facts, "train_loss": float(loss), "kept_fraction": float(kept_count) / facts["train_units"]}


@dataclass(frozen=True)
class FlowModel(NetworkModel):
    """A trained field of one generation, and its space."""

    network: VelocityField
    space: Space
    solver_steps: int

    def sample(self, n: int, *, seed: int) -> Any:
        """`n` examples, integrated from noise."""
        chunks = noise_chunks(n, self.network.dimension, seed=seed, device=self.device)
        examples = [integrate(self.network, chunk, steps=self.solver_steps).cpu() for chunk in chunks]
        return self.space.decode(torch.cat(examples))

    def regenerate(self, data: Any, *, seed: int) -> Any:
        """As many new examples as `data` has: neither a point nor an image is a prompt."""
        return self.sample(len(data), seed=seed)

    def log_density(self, points: ArrayData, space: PointSpace) -> Floats:
        """(n,) ln p of `points` in the plane's unit, in nats."""
        log_densities = log_density(self.network, space.encode(points).to(self.device), steps=self.solver_steps)
        return np.asarray(log_densities.cpu().numpy() - space.dimension * np.log(space.scale), dtype=np.float64)


def build_learner(config: FlowArm, space: Space, device: str) -> NetworkLearner:
    """Trains a field from scratch in every generation."""
    return NetworkLearner(
        new=lambda seed: init_field(config, space.dimension, seed=seed, device=device),
        train=lambda data, **seeds: train(config, space.encode(data).to(device), **seeds),
        wrap=lambda field, facts: FlowModel(field, facts, space, config.solver_steps),
    )


def build(config: FlowArm, *, seed: int, device: str, shared: MutableMapping[str, Any]) -> Experiment:
    """The recursion of flows that `config` describes; `shared` keeps what other arms and seeds need too.

    Raises:
        InputError: images that are not readable or not usable.
        ConfigError: a GPU that is not there, or a truncation that leaves out nothing, or all.
    """
    device = resolve_device(device)
    space = build_space(config, seed=seed, device=device, shared=shared)
    match config.truncate:
        case LossTruncation() as truncate:
            truncated_count(truncate, min(config.training.batch, len(space.real)))
        case LikelihoodTruncation() as truncate:
            truncated_count(truncate, len(space.real))
    return Experiment(
        name="flow",
        real=space.real,
        learner=build_learner(config, space, device),
        views={"common": lambda model, seed: model.sample(space.num_samples, seed=seed)},
        measure=lambda model, samples: _measure(model, samples["common"], space),
    )


def _measure(model: FlowModel, samples: Any, space: PointSpace | ImageSpace) -> Measurement:
    measurement = space.measure(samples)
    if isinstance(space, ImageSpace):
        return measurement
    divergence = space.kl_divergence(model.log_density(space.reference, space))
    return Measurement({**measurement.metrics, "kl_real_model": divergence}, measurement.tables)
