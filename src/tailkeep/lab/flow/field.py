"""A velocity field that carries noise to data, and the path along it (Lipman et al. 2023, arXiv 2210.02747).

    x_t = (1 - t) z + t x        z: noise, x: an example, t from 0 to 1; the field learns E[x - z | x_t]

It is the probability-flow ODE of the diffusion model whose noise has the standard deviation (1 - t) beside t x.

legend: n examples, d numbers each
"""

import copy
import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

_FREQUENCIES = 8
_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)


class Field(nn.Module):
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


def squared_errors(field: Field, examples: Tensor, noise: Tensor, times: Tensor) -> Tensor:
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


def carry(field: Field, noise: Tensor, *, steps: int) -> Tensor:
    """(n, d) noise carried to data by the midpoint rule in `steps` equal steps, detached."""
    with torch.no_grad():
        places = noise
        for step in range(steps):
            places = _midpoint(lambda x, t: field(x, _filled(x, t)), places, step / steps, 1 / steps)
        return places


def log_density(field: Field, examples: Tensor, *, steps: int) -> Tensor:
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
