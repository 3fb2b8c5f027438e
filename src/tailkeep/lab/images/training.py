"""Training of one autoencoder: as many steps for every arm, whatever the size of its training set."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tailkeep.errors import TrainingError
from tailkeep.lab.images.cuts import cut_loss, left_out
from tailkeep.lab.images.network import Autoencoder, bound_parts
from tailkeep.lab.images.pictures import Pictures
from tailkeep.lab.images.settings import ImageTraining, PixelCut, SampleCut
from tailkeep.lab.protocols import Indices


def train(
    network: Autoencoder,
    data: Pictures,
    *,
    training: ImageTraining,
    cut: PixelCut | SampleCut | None,
    budget: int,
    seed: int,
) -> dict[str, float]:
    """Train `network` where it is, for `training.epochs` passes over `budget` images, and return facts.

    Raises:
        ConfigError: the cut leaves nothing of a batch.
        TrainingError: the loss is no longer finite, or the cut kept no pixel at all.
    """
    device = next(network.parameters()).device
    values = torch.from_numpy(data.values).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    adam = torch.optim.Adam(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    batch = min(training.batch, len(data))
    if isinstance(cut, SampleCut):
        left_out(cut, batch)
    steps = max(1, math.ceil(training.epochs * budget / batch))
    bound, kept, judged = torch.zeros((), device=device), torch.zeros((), device=device), 0
    for indices in batches(len(data), size=batch, steps=steps, seed=seed):
        images = as_greys(values[torch.from_numpy(indices).to(device)])
        pixels, divergence = bound_parts(network, images, generator)
        loss = cut_loss(pixels, divergence, cut, generator)
        adam.zero_grad()
        loss.total.backward()
        adam.step()
        bound += (pixels.detach().sum() + divergence.detach().sum()) / (steps * batch)
        kept += loss.kept.sum()
        judged += loss.kept.numel()
    _refuse_unusable(float(bound), float(kept), cut, training)
    return {
        "train_units": float(steps * batch),
        "train_steps": float(steps),
        "train_bound": float(bound),
        "kept_fraction": float(kept) / judged,
    }


def batches(count: int, *, size: int, steps: int, seed: int) -> Iterator[Indices]:
    """`steps` times `size` indices below `count`, pass after pass in a new order, batches running across passes."""
    rng = np.random.default_rng(seed)
    waiting = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(waiting) < size:
            waiting = np.concatenate([waiting, rng.permutation(count)])
        yield waiting[:size]
        waiting = waiting[size:]


def as_greys(values: Tensor) -> Tensor:
    """Bytes as greys in 0..1, float32."""
    return values.float() / 255


def _refuse_unusable(bound: float, kept: float, cut: PixelCut | SampleCut | None, training: ImageTraining) -> None:
    if not math.isfinite(bound):
        raise TrainingError(
            f"the loss is no longer finite at learning_rate {training.learning_rate}. Lower training.learning_rate."
        )
    if kept == 0 and isinstance(cut, PixelCut):
        raise TrainingError(
            f"truncate.threshold {cut.threshold} left out every pixel of the whole training. Use a higher one."
        )
