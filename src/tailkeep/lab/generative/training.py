"""What the learners `vae`, `flow` and `gan` share: schedule, truncation, and a network on disk.

Rule: every arm trains for as many steps, whatever the size of its training set and whatever truncation leaves out.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tailkeep.errors import ConfigError, TrainingError
from tailkeep.lab.generative.config import FlowTraining, GANTraining, ShareTruncation, VAETraining
from tailkeep.lab.protocols import Indices, Model
from tailkeep.lab.toy_data import load_model, save_model

Facts = Mapping[str, float]
AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


# Models and learners


@dataclass(frozen=True)
class NetworkModel:
    """A trained network of one generation."""

    network: nn.Module
    facts: Facts

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, with the facts in its header."""
        arrays = {name: tensor.cpu().numpy() for name, tensor in self.network.state_dict().items()}
        save_model(folder, arrays, self.facts)


@dataclass(frozen=True)
class NetworkLearner:
    """Trains from scratch in every generation, as the published experiments do.

    Args:
        new: a network of fresh weights, from a seed.
        train: the trained network and the facts, from data, `budget` and `seed`.
        wrap: the model of a network and its facts.
    """

    new: Callable[[int], nn.Module]
    train: Callable[..., tuple[nn.Module, Facts]]
    wrap: Callable[[Any, Facts], Model]

    def fit(self, data: Any, *, seed: int, budget: int, previous: Model | None = None) -> Model:  # noqa: ARG002
        """A model trained from new weights; the previous model does not enter.

        Raises:
            TailkeepError: truncation leaves out nothing or all, or the loss is not finite.
        """
        return self.wrap(*self.train(data, budget=budget, seed=seed))

    def load(self, folder: Path) -> Model:
        """Read `model.safetensors`."""
        network = self.new(0)
        arrays, facts = load_model(folder)
        network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        return self.wrap(network, facts)


def init_network(create: Callable[[], AnyNetwork], *, seed: int, device: str | torch.device) -> AnyNetwork:
    """A network whose weights are a function of `seed`; the global generator keeps its state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create().to(device)


def noise_chunks(n: int, dimension: int, *, seed: int, device: torch.device, rows: int = 1000) -> Iterator[Tensor]:
    """(n, dimension) normal numbers in chunks of up to `rows`, from the CPU's generator: the same for every device."""
    noise = torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed))
    return (chunk.to(device) for chunk in noise.split(rows))


# Schedules


@dataclass(frozen=True)
class Schedule:
    """`steps` batches of `batch` examples."""

    batch: int
    steps: int

    @property
    def facts(self) -> dict[str, float]:
        """`train_units` and `train_steps`."""
        return {"train_units": float(self.steps * self.batch), "train_steps": float(self.steps)}

    def batches(self, examples: Tensor, *, seed: int) -> Iterator[Tensor]:
        """The batches of `examples` (n, ...), in a new order per epoch."""
        for indices in batch_indices(len(examples), batch=self.batch, steps=self.steps, seed=seed):
            yield examples[torch.from_numpy(indices).to(examples.device)]

    def cosine_decay(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """A learning rate that falls to 0 along half a cosine over all steps."""
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)


def make_schedule(training: VAETraining | FlowTraining | GANTraining, examples: int, *, budget: int) -> Schedule:
    """As many steps as `training.epochs` passes over `budget` examples take, in batches of `examples` at most."""
    batch = min(training.batch, examples)
    return Schedule(batch, max(1, math.ceil(training.epochs * budget / batch)))


def batch_indices(count: int, *, batch: int, steps: int, seed: int) -> Iterator[Indices]:
    """`steps` times `batch` indices below `count`, in a new order per epoch; batches run across epochs."""
    rng = np.random.default_rng(seed)
    queue = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(queue) < batch:
            queue = np.concatenate([queue, rng.permutation(count)])
        yield queue[:batch]
        queue = queue[batch:]


def to_grey_levels(values: Tensor) -> Tensor:
    """Bytes as greys in 0..1, float32."""
    return values.float() / 255


def check_finite(loss: float, learning_rate: float) -> None:
    """Check the mean loss of a training.

    Raises:
        TrainingError: `loss` is not finite.
    """
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is no longer finite at learning_rate {learning_rate}. Lower training.learning_rate."
        )


# Truncation


def keep_mask(losses: Tensor, truncate: ShareTruncation | None, generator: torch.Generator) -> Tensor:
    """The mask of the examples that `truncate` keeps: all but the share of lowest `losses`; (n,) boolean, detached.

    Args:
        losses: (n,), any numbers that are low where the model is confident.
        truncate: the share, and whether random examples are left out as a control; None keeps all.
        generator: of the losses' device; only the control uses it.

    Raises:
        ConfigError: nothing would be left out, or all.
    """
    mask = torch.ones_like(losses, dtype=torch.bool)
    if truncate:
        order = losses.detach()
        if truncate.control == "random":
            order = torch.rand(order.shape, generator=generator, device=order.device)
        mask[order.argsort(stable=True)[: truncated_count(truncate, len(order))]] = False
    return mask


def truncated_count(truncate: ShareTruncation, count: int) -> int:
    """The number of `count` examples that are left out, to the nearest whole number.

    Raises:
        ConfigError: none of them would be, or all.
    """
    number = round(truncate.share * count)
    if not 0 < number < count:
        raise ConfigError(
            f"truncate.share must leave out some of {count} examples and keep some, got {truncate.share}, which leaves "
            f"out {number}. Use another share or a larger training.batch."
        )
    return number
