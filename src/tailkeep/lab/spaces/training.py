"""What trainings of `flow` and `gan` share: how many steps, in which batches, at which rate, and where."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tailkeep.errors import ConfigError, TrainingError
from tailkeep.lab.images.training import batches


def steps_of(*, epochs: float, budget: int, batch: int) -> int:
    """Steps that pass `epochs` times over `budget` examples, whatever the size of the training set."""
    return max(1, math.ceil(epochs * budget / batch))


def batches_of(examples: Tensor, *, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """`steps` batches of (size, d) from `examples` (n, d), pass after pass in a new order."""
    for indices in batches(len(examples), size=size, steps=steps, seed=seed):
        yield examples[torch.from_numpy(indices).to(examples.device)]


def falling(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """A rate that falls to 0 along half a cosine over `steps`."""
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)


def refuse_broken(loss: float, learning_rate: float) -> None:
    """Refuse a training whose mean loss is no number.

    Raises:
        TrainingError: `loss` is not finite.
    """
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is no longer finite at learning_rate {learning_rate}. Lower training.learning_rate."
        )


def device_of(choice: str) -> str:
    """The device that `device: {choice}` means here.

    Raises:
        ConfigError: a GPU that is not there.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda was asked for, but torch sees no GPU here. Use device=auto or device=cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if choice == "auto" else choice
