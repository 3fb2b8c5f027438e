"""The learner `vae`: from images to an autoencoder, and the subject that the laboratory studies."""

import json
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from tailkeep.errors import ConfigError
from tailkeep.lab.generative.config import SampleCut, VAEArm
from tailkeep.lab.generative.images import Pictures, read_images
from tailkeep.lab.generative.measures import ImageMeasure, train_classifier
from tailkeep.lab.generative.vae import Autoencoder, AutoencoderModel, train, truncated_count
from tailkeep.lab.loop import phase_seed
from tailkeep.lab.protocols import Experiment


@dataclass(frozen=True)
class AutoencoderLearner:
    """Trains a fresh autoencoder in each generation, as the published experiment does."""

    study: VAEArm
    size: tuple[int, int]
    device: str

    def fit(
        self,
        data: Pictures,
        *,
        seed: int,
        budget: int,
        previous: AutoencoderModel | None = None,  # noqa: ARG002
    ) -> AutoencoderModel:
        """A new model from new weights; the predecessor does not enter.

        Raises:
            TailkeepError: the truncation leaves nothing, or the loss is no longer finite.
        """
        network = self._new(seed)
        facts = train(network, data, training=self.study.training, cut=self.study.truncate, budget=budget, seed=seed)
        return AutoencoderModel(network.eval(), facts)

    def load(self, folder: Path) -> AutoencoderModel:
        """Read `model.safetensors`."""
        with safe_open(folder / "model.safetensors", framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (not a mapping)
            facts = json.loads(stored.metadata()["facts"])
        network = self._new(0)
        network.load_state_dict(tensors)
        return AutoencoderModel(network.eval(), facts)

    def _new(self, seed: int) -> Autoencoder:
        choice = self.study.network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Autoencoder(self.size, channels=choice.channels, latent=choice.latent).to(self.device)


def build(study: VAEArm, *, seed: int, device: str, shared: MutableMapping[str, Any]) -> Experiment:
    """The recursion of autoencoders that `study` describes; `shared` keeps what other arms and seeds need too.

    Raises:
        InputError: images that cannot be read or used.
        ConfigError: a GPU that is not there, or a truncation that leaves nothing of a batch.
    """
    device = _device(device)
    source = study.model_dump_json(include={"data"})
    steps = study.evaluation.classifier_steps
    real = _once(shared, f"images {source}", lambda: read_images(study.data))
    if isinstance(study.truncate, SampleCut):
        truncated_count(study.truncate, min(study.training.batch, len(real.train)))
    plain = study.model_copy(update={"truncate": None})
    whose = plain.model_dump_json(include={"data", "network", "training"})

    def encoder() -> AutoencoderModel:
        # The seed of a plain arm's generation 0, so that the yardstick is that very model.
        learner = AutoencoderLearner(plain, real.train.size, device)
        return learner.fit(real.train, seed=phase_seed(seed, 0, "train"), budget=len(real.train))

    return Experiment(
        name="vae",
        real=real.train,
        learner=AutoencoderLearner(study, real.train.size, device),
        views={"common": lambda model, seed: model.sample(len(real.held_out), seed=seed)},
        measure=ImageMeasure(
            real,
            lambda: _once(shared, f"encoder {whose} {seed}", encoder),
            lambda: _once(
                shared, f"classifier {steps} {source}", lambda: train_classifier(real, steps=steps, device=device)
            ),
        ),
    )


def _once(shared: MutableMapping[str, Any], key: str, make: Callable[[], Any]) -> Any:
    if key not in shared:
        shared[key] = make()
    return shared[key]


def _device(choice: str) -> str:
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda was asked for, but torch sees no GPU here. Use device=auto or device=cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if choice == "auto" else choice
