"""What trainings of `flow` and `gan` share: how many steps, in which batches, at which rate, and where."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tailkeep.errors import ConfigError, TrainingError
from tailkeep.lab.generative.vae import batches


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


# Networks of a generation on disk, and the noise that they turn into examples.


_AT_ONCE = 1000


def save_network(folder: Path, network: nn.Module, facts: Mapping[str, float]) -> None:
    """Write `model.safetensors`: the weights and, in its header, the facts."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"facts": json.dumps(dict(facts))})


def load_network(folder: Path, network: nn.Module) -> dict[str, float]:
    """Put the weights that `save_network` has written into `network`, and return the facts."""
    with safe_open(folder / "model.safetensors", framework="pt") as stored:
        network.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118  (no mapping)
        facts: dict[str, float] = json.loads(stored.metadata()["facts"])
    return facts


def noise_of(n: int, dimension: int, *, seed: int, device: torch.device) -> Iterator[Tensor]:
    """(n, dimension) normal numbers in parts of up to 1,000 rows, drawn on the CPU: the same for every device."""
    noise = torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed))
    return (part.to(device) for part in noise.split(_AT_ONCE))


# Leaving out the examples with the lowest losses, or as many at random.


def kept_examples(losses: Tensor, *, share: float, at_random: bool, generator: torch.Generator) -> Tensor:
    """Which of n examples stay when the `share` with the lowest `losses` (n,) is left out; (n,) boolean, detached.

    Args:
        losses: (n,), any numbers of which low ones mean that the model is sure.
        share: between 0 and 1; see `truncated_count`.
        at_random: leave out as many of any: the control.
        generator: of the losses' device; only the control draws from it.

    Raises:
        ConfigError: nothing would be left out, or all.
    """
    values = losses.detach()
    if at_random:
        values = torch.rand(values.shape, generator=generator, device=values.device)
    kept = torch.ones_like(values, dtype=torch.bool)
    kept[values.argsort(stable=True)[: truncated_count(share, len(values))]] = False
    return kept


def truncated_count(share: float, count: int) -> int:
    """How many of `count` examples are left out, to the nearest whole number.

    Raises:
        ConfigError: all of them would be, or none.
    """
    number = round(share * count)
    if not 0 < number < count:
        raise ConfigError(
            f"truncate.share: {share} of {count} examples leaves out {number}. "
            "Choose a share that leaves out some and keeps some, or a larger training.batch."
        )
    return number
