"""The learner `gan`: from points or images to a generator, and the subject that the laboratory studies."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tailkeep.lab.gan.networks import Generator
from tailkeep.lab.gan.settings import GANStudy
from tailkeep.lab.gan.training import new_generator, train
from tailkeep.lab.protocols import Subject
from tailkeep.lab.spaces.building import build_space
from tailkeep.lab.spaces.cuts import left_out
from tailkeep.lab.spaces.networks import load_network, noise_of, save_network
from tailkeep.lab.spaces.space import Space
from tailkeep.lab.spaces.training import device_of


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

    study: GANStudy
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


def build(study: GANStudy, *, seed: int, device: str, shared: MutableMapping[str, Any]) -> Subject:
    """The recursion of generators that `study` describes; `shared` keeps what other arms and seeds need too.

    Raises:
        InputError: images that cannot be read or used.
        ConfigError: a GPU that is not there, or a truncation that leaves out nothing of a batch or all.
    """
    device = device_of(device)
    space = build_space(study, seed=seed, device=device, shared=shared)
    if study.truncate:
        left_out(study.truncate.share, min(study.training.batch, len(space.real)))
    return Subject(
        name="gan",
        real=space.real,
        learner=GANLearner(study, space, device),
        views={"common": lambda model, seed: model.sample(space.draws, seed=seed)},
        measure=lambda model, samples: space.measure(samples["common"]),  # noqa: ARG005
    )
