"""Training of a generator against a discriminator, step by step in turn.

Rule: what is left out is decided without gradient, batch by batch; the penalty on gradients counts for all of it.
"""

import torch
from torch import Tensor

from tailkeep.lab.gan.networks import Discriminator, Generator, fooled, told
from tailkeep.lab.gan.settings import GANStudy, SureCut
from tailkeep.lab.spaces.cuts import kept_examples
from tailkeep.lab.spaces.training import batches_of, falling, refuse_broken, steps_of

_BETAS = (0.0, 0.99)  # Mescheder et al. 2018: momentum makes the two circle around each other


def new_generator(study: GANStudy, dimension: int, *, bounded: bool, seed: int) -> Generator:
    """Fresh weights; the global generator is left alone."""
    network = study.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(dimension, latent=study.latent, width=network.width, layers=network.layers, bounded=bounded)


def train(
    study: GANStudy, examples: Tensor, *, bounded: bool, budget: int, seed: int
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
        real, real_slope = told(discriminator, found, drawn=False)
        fake, fake_slope = told(discriminator, drawn(), drawn=True)
        stay = [_kept(losses, study.truncate, "discriminator", random) for losses in (real, fake)]
        cost = (real * stay[0] + fake * stay[1] + 0.5 * training.penalty * (real_slope + fake_slope)).mean()
        _step(adams[0], cost)
        losses = fooled(discriminator, drawn())
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
    return kept_examples(losses, share=cut.share, at_random=cut.at_random, generator=random)


def _new_discriminator(study: GANStudy, dimension: int, *, seed: int) -> Discriminator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return Discriminator(dimension, width=study.network.width, layers=study.network.layers)
