"""The learner `gan`: from points or images to a generator, and the subject that the laboratory studies."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from tailkeep.lab.generative.config import GANArm, SureCut
from tailkeep.lab.generative.spaces import Space, build_space
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
from tailkeep.lab.protocols import Experiment

# The two networks, and their losses example by example (Goodfellow et al. 2014, the generator's in its second form).
#
#     discriminator   ln(1 + exp(-D(x))) on training examples, ln(1 + exp(D(G(z)))) on drawn ones
#     generator       ln(1 + exp(-D(G(z))))
#
# legend: n examples, d numbers each, l latent numbers


class Generator(nn.Module):
    """(n, l) noise -> (n, d) examples; `bounded` keeps their numbers in -1..1."""

    def __init__(self, dimension: int, *, latent: int, width: int, layers: int, bounded: bool) -> None:
        super().__init__()
        self.latent = latent
        self.network = _layers(latent, dimension, width=width, layers=layers)
        self.last = nn.Tanh() if bounded else nn.Identity()

    def forward(self, noise: Tensor) -> Tensor:
        """The examples that `noise` becomes."""
        examples: Tensor = self.last(self.network(noise))
        return examples


class Discriminator(nn.Module):
    """(n, d) examples -> (n,) logits of being a training example."""

    def __init__(self, dimension: int, *, width: int, layers: int) -> None:
        super().__init__()
        self.network = _layers(dimension, 1, width=width, layers=layers)

    def forward(self, examples: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.network(examples)
        return logits[:, 0]


def discriminator_loss(discriminator: Discriminator, examples: Tensor, *, drawn: bool) -> tuple[Tensor, Tensor]:
    """The discriminator's loss on each of `examples` (n, d), and its squared gradient there, both (n,).

    The gradient's weight is Mescheder et al.'s zero-centred penalty (2018, arXiv 1801.04406).
    """
    examples = examples.detach().requires_grad_()
    logits = discriminator(examples)
    (slope,) = torch.autograd.grad(logits.sum(), examples, create_graph=True)
    return softplus(logits if drawn else -logits), slope.square().sum(dim=1)


def generator_loss(discriminator: Discriminator, drawn: Tensor) -> Tensor:
    """The generator's loss on each of `drawn` (n, d); (n,)."""
    return softplus(-discriminator(drawn))


def _layers(first: int, last: int, *, width: int, layers: int) -> nn.Sequential:
    sizes = [first, *[width] * layers]
    hidden = (module for i, o in pairwise(sizes) for module in (nn.Linear(i, o), nn.LeakyReLU(0.2)))
    return nn.Sequential(*hidden, nn.Linear(width, last))


# Training of a generator against a discriminator, step by step in turn.
#
# Rule: what is left out is decided without gradient, batch by batch; the penalty on gradients counts for all of it.


_BETAS = (0.0, 0.99)  # Mescheder et al. 2018: momentum makes the two circle around each other


def new_generator(study: GANArm, dimension: int, *, bounded: bool, seed: int) -> Generator:
    """Fresh weights; the global generator is left alone."""
    network = study.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(dimension, latent=study.latent, width=network.width, layers=network.layers, bounded=bounded)


def train(
    study: GANArm, examples: Tensor, *, bounded: bool, budget: int, seed: int
) -> tuple[Generator, dict[str, float]]:
    """A new generator of `examples` (n, d), and facts about its training.

    Raises:
        ConfigError: the truncation leaves out nothing of a batch, or all.
        TrainingError: a loss is no longer finite.
    """
    training, device = study.training, examples.device
    generator = new_generator(study, examples.shape[1], bounded=bounded, seed=seed).to(device)
    discriminator = _new_discriminator(study, examples.shape[1], seed=seed).to(device)
    random = torch.Generator(device).manual_seed(seed)
    batch = min(training.batch, len(examples))
    steps = steps_of(epochs=training.epochs, budget=budget, batch=batch)
    adams = [
        torch.optim.Adam(network.parameters(), lr=training.learning_rate, betas=_BETAS)
        for network in (discriminator, generator)
    ]
    rates = [falling(adam, steps) for adam in adams]
    sums = torch.zeros(3, device=device)

    def drawn() -> Tensor:
        found: Tensor = generator(torch.randn(batch, study.latent, generator=random, device=device))
        return found

    for found in batches_of(examples, size=batch, steps=steps, seed=seed):
        real, real_slope = discriminator_loss(discriminator, found, drawn=False)
        fake, fake_slope = discriminator_loss(discriminator, drawn(), drawn=True)
        stay = [_kept(losses, study.truncate, "discriminator", random) for losses in (real, fake)]
        cost = (real * stay[0] + fake * stay[1] + 0.5 * training.penalty * (real_slope + fake_slope)).mean()
        _step(adams[0], cost)
        losses = generator_loss(discriminator, drawn())
        stay.append(_kept(losses, study.truncate, "generator", random))
        _step(adams[1], (losses * stay[2]).mean())
        for rate in rates:
            rate.step()
        kept = torch.stack([part.float().mean() for part in stay]).mean()
        sums += torch.stack([(real + fake).detach().mean(), losses.detach().mean(), kept])
    told_loss, fooled_loss, kept_fraction = (sums / steps).tolist()
    refuse_broken(told_loss + fooled_loss, training.learning_rate)
    return generator, {
        "train_units": float(steps * batch),
        "train_steps": float(steps),
        "discriminator_loss": told_loss,
        "generator_loss": fooled_loss,
        "kept_fraction": kept_fraction,
    }


def _step(adam: torch.optim.Optimizer, cost: Tensor) -> None:
    adam.zero_grad()
    cost.backward()
    adam.step()


def _kept(losses: Tensor, cut: SureCut | None, of: str, random: torch.Generator) -> Tensor:
    if cut is None or cut.of != of:
        return torch.ones_like(losses, dtype=torch.bool)
    return kept_examples(losses, share=cut.share, at_random=cut.control == "random", generator=random)


def _new_discriminator(study: GANArm, dimension: int, *, seed: int) -> Discriminator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return Discriminator(dimension, width=study.network.width, layers=study.network.layers)


@dataclass(frozen=True)
class GANModel:
    """A trained generator of one generation, and the space that it draws in; the discriminator is not kept."""

    generator: Generator
    space: Space
    facts: Mapping[str, float]

    @torch.no_grad()
    def sample(self, n: int, *, seed: int) -> Any:
        """`n` examples from noise."""
        device = next(self.generator.parameters()).device
        parts = noise_of(n, self.generator.latent, seed=seed, device=device)
        return self.space.decode(torch.cat([self.generator(part).cpu() for part in parts]))

    def regenerate(self, data: Any, *, seed: int) -> Any:
        """As many fresh examples as `data` has: a point carries no prompt."""
        return self.sample(len(data), seed=seed)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, with the facts in its header."""
        save_network(folder, self.generator, self.facts)


@dataclass(frozen=True)
class GANLearner:
    """Trains a fresh pair of networks in each generation."""

    study: GANArm
    space: Space
    device: str

    def fit(self, data: Any, *, seed: int, budget: int, previous: GANModel | None = None) -> GANModel:  # noqa: ARG002
        """A new model from new weights; the predecessor does not enter.

        Raises:
            TailkeepError: the truncation leaves out nothing of a batch or all, or a loss is no longer finite.
        """
        examples = self.space.encode(data).to(self.device)
        generator, facts = train(self.study, examples, bounded=self.space.bounded, budget=budget, seed=seed)
        return GANModel(generator, self.space, facts)

    def load(self, folder: Path) -> GANModel:
        """Read `model.safetensors`."""
        fresh = new_generator(self.study, self.space.dimension, bounded=self.space.bounded, seed=0).to(self.device)
        return GANModel(fresh, self.space, load_network(folder, fresh))


def build(study: GANArm, *, seed: int, device: str, shared: MutableMapping[str, Any]) -> Experiment:
    """The recursion of generators that `study` describes; `shared` keeps what other arms and seeds need too.

    Raises:
        InputError: images that cannot be read or used.
        ConfigError: a GPU that is not there, or a truncation that leaves out nothing of a batch or all.
    """
    device = device_of(device)
    space = build_space(study, seed=seed, device=device, shared=shared)
    if study.truncate:
        truncated_count(study.truncate.share, min(study.training.batch, len(space.real)))
    return Experiment(
        name="gan",
        real=space.real,
        learner=GANLearner(study, space, device),
        views={"common": lambda model, seed: model.sample(space.draws, seed=seed)},
        measure=lambda model, samples: space.measure(samples["common"]),  # noqa: ARG005
    )
