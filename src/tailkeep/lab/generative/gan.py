"""The learner `gan`: a generative adversarial network of points or images.

Losses of each example (Goodfellow et al. 2014, arXiv 1406.2661, the generator's in its non-saturating form):

    discriminator   ln(1 + exp(-D(x))) on training examples, ln(1 + exp(D(G(z)))) on generated ones
    generator       ln(1 + exp(-D(G(z))))

Rule: truncation is decided without gradient, batch by batch; the gradient penalty counts every example.

legend: n examples, d coordinates each, l latent numbers
"""

from collections.abc import MutableMapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from tailkeep.lab.device import resolve_device
from tailkeep.lab.generative.config import GANArm
from tailkeep.lab.generative.spaces import Space, build_space
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
from tailkeep.lab.protocols import Experiment

_BETAS = (0.0, 0.99)  # Mescheder et al. 2018: with momentum the two networks circle around each other


class Generator(nn.Module):
    """(n, l) noise -> (n, d) examples; `bounded` keeps their coordinates in -1..1."""

    def __init__(self, dimension: int, *, latent: int, width: int, layers: int, bounded: bool) -> None:
        super().__init__()
        self.latent = latent
        self.network = _dense(latent, dimension, width=width, layers=layers)
        self.last = nn.Tanh() if bounded else nn.Identity()

    def forward(self, noise: Tensor) -> Tensor:
        """The examples of `noise`."""
        examples: Tensor = self.last(self.network(noise))
        return examples


class Discriminator(nn.Module):
    """(n, d) examples -> (n,) logits of being a training example."""

    def __init__(self, dimension: int, *, width: int, layers: int) -> None:
        super().__init__()
        self.network = _dense(dimension, 1, width=width, layers=layers)

    def forward(self, examples: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.network(examples)
        return logits[:, 0]


def _dense(first: int, last: int, *, width: int, layers: int) -> nn.Sequential:
    sizes = [first, *[width] * layers]
    hidden = (module for i, o in pairwise(sizes) for module in (nn.Linear(i, o), nn.LeakyReLU(0.2)))
    return nn.Sequential(*hidden, nn.Linear(width, last))


def discriminator_loss(discriminator: Discriminator, examples: Tensor, *, generated: bool) -> tuple[Tensor, Tensor]:
    """The discriminator's loss on each of `examples` (n, d), and its squared gradient there, both (n,).

    The mean of the squared gradients is Mescheder et al.'s zero-centred penalty (2018, arXiv 1801.04406).
    """
    examples = examples.detach().requires_grad_()
    logits = discriminator(examples)
    (gradient,) = torch.autograd.grad(logits.sum(), examples, create_graph=True)
    return softplus(logits if generated else -logits), gradient.square().sum(dim=1)


def generator_loss(discriminator: Discriminator, generated: Tensor) -> Tensor:
    """The generator's loss on each of `generated` (n, d); (n,)."""
    return softplus(-discriminator(generated))


def init_generator(config: GANArm, space: Space, *, seed: int, device: str | torch.device) -> Generator:
    """A generator of fresh weights."""
    size = config.network.model_dump()
    create = lambda: Generator(space.dimension, latent=config.latent, bounded=space.bounded, **size)  # noqa: E731
    return init_network(create, seed=seed, device=device)


def train(
    config: GANArm, space: Space, data: Any, *, device: str, budget: int, seed: int
) -> tuple[Generator, dict[str, float]]:
    """A new generator of `data`, trained against a discriminator step by step, and facts about its training.

    Raises:
        ConfigError: truncation leaves out nothing of a batch, or all.
        TrainingError: a loss is not finite.
    """
    training, size = config.training, config.network.model_dump()
    truncate = {config.truncate.of: config.truncate} if config.truncate else {}
    examples = space.encode(data).to(device)
    generator = init_generator(config, space, seed=seed, device=device)
    discriminator = init_network(lambda: Discriminator(space.dimension, **size), seed=seed + 1, device=device)
    rng = torch.Generator(device).manual_seed(seed)
    schedule = make_schedule(training, len(examples), budget=budget)
    discriminator_adam, generator_adam = (
        torch.optim.Adam(network.parameters(), lr=training.learning_rate, betas=_BETAS)
        for network in (discriminator, generator)
    )
    rates = [schedule.cosine_decay(adam) for adam in (discriminator_adam, generator_adam)]
    sums = torch.zeros(3, device=device)

    def generate() -> Tensor:
        samples: Tensor = generator(torch.randn(schedule.batch, config.latent, generator=rng, device=device))
        return samples

    for batch in schedule.batches(examples, seed=seed):
        real, real_gradient = discriminator_loss(discriminator, batch, generated=False)
        fake, fake_gradient = discriminator_loss(discriminator, generate(), generated=True)
        masks = [keep_mask(losses, truncate.get("discriminator"), rng) for losses in (real, fake)]
        penalty = 0.5 * training.penalty * (real_gradient + fake_gradient)
        _step(discriminator_adam, (real * masks[0] + fake * masks[1] + penalty).mean())
        losses = generator_loss(discriminator, generate())
        masks.append(keep_mask(losses, truncate.get("generator"), rng))
        _step(generator_adam, (losses * masks[2]).mean())
        for rate in rates:
            rate.step()
        kept_fraction = torch.stack([mask.float().mean() for mask in masks]).mean()
        sums += torch.stack([(real + fake).detach().mean(), losses.detach().mean(), kept_fraction])
    names = ("discriminator_loss", "generator_loss", "kept_fraction")
    means = dict(zip(names, (sums / schedule.steps).tolist(), strict=True))
    check_finite(means["discriminator_loss"] + means["generator_loss"], training.learning_rate)
    return generator, {**schedule.facts, **means}


def _step(adam: torch.optim.Optimizer, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


@dataclass(frozen=True)
class GANModel(NetworkModel):
    """A trained generator of one generation, and its space; the discriminator is not saved."""

    network: Generator
    space: Space

    @torch.no_grad()
    def sample(self, n: int, *, seed: int) -> Any:
        """`n` examples from noise."""
        chunks = noise_chunks(n, self.network.latent, seed=seed, device=self.device)
        return self.space.decode(torch.cat([self.network(chunk).cpu() for chunk in chunks]))

    def regenerate(self, data: Any, *, seed: int) -> Any:
        """As many new examples as `data` has: neither a point nor an image is a prompt."""
        return self.sample(len(data), seed=seed)


def build_learner(config: GANArm, space: Space, device: str) -> NetworkLearner:
    """Trains a generator and a discriminator from scratch in every generation."""
    return NetworkLearner(
        new=lambda seed: init_generator(config, space, seed=seed, device=device),
        train=lambda data, **seeds: train(config, space, data, device=device, **seeds),
        wrap=lambda generator, facts: GANModel(generator, facts, space),
    )


def build(config: GANArm, *, seed: int, device: str, shared: MutableMapping[str, Any]) -> Experiment:
    """The recursion of generators that `config` describes; `shared` keeps what other arms and seeds need too.

    Raises:
        InputError: images that are not readable or not usable.
        ConfigError: a GPU that is not there, or a truncation that leaves out nothing of a batch, or all.
    """
    device = resolve_device(device)
    space = build_space(config, seed=seed, device=device, shared=shared)
    if config.truncate:
        truncated_count(config.truncate, min(config.training.batch, len(space.real)))
    return Experiment(
        name="gan",
        real=space.real,
        learner=build_learner(config, space, device),
        views={"common": lambda model, seed: model.sample(space.num_samples, seed=seed)},
        measure=lambda model, samples: space.measure(samples["common"]),  # noqa: ARG005
    )
