"""An autoencoder of one generation: how it draws images, rewrites them, and is kept on disk."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from tailkeep.errors import ConfigError, TrainingError
from tailkeep.lab.generative.config import ImageTraining, PixelCut, SampleCut
from tailkeep.lab.generative.images import Pictures
from tailkeep.lab.protocols import Indices
from tailkeep.losses import truncation_mask

# The convolutional autoencoder of Shumailov et al.'s MNIST experiment, for images of any sides divisible by 4.
#
# With 64 channels, 20 latent numbers and 28 x 28 pixels it has the published 647,081 parameters.
#
# legend: n images, (height, width) pixels, l latent numbers


class Autoencoder(nn.Module):
    """Encoder to a normal distribution over l numbers, decoder to a logit for each pixel."""

    def __init__(self, size: tuple[int, int], *, channels: int, latent: int) -> None:
        super().__init__()
        height, width = size
        self.folded = (2 * channels, height // 4, width // 4)
        features = math.prod(self.folded)
        self.encoder = nn.Sequential(
            nn.Conv2d(1, channels, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 4, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.mean = nn.Linear(features, latent)
        self.log_variance = nn.Linear(features, latent)
        self.unfold = nn.Linear(latent, features)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(2 * channels, channels, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, 1, 4, 2, 1),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(n, height, width) greys in 0..1 -> (n, l) means and (n, l) log-variances."""
        features = self.encoder(images[:, None])
        return self.mean(features), self.log_variance(features)

    def decode(self, codes: Tensor) -> Tensor:
        """(n, l) -> (n, height, width) logits of the greys."""
        logits: Tensor = self.decoder(self.unfold(codes).view(-1, *self.folded))
        return logits[:, 0]


def bound_parts(network: Autoencoder, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The two parts of the negative evidence bound in nats, with one draw of the code for each image.

    Args:
        network: the autoencoder.
        images: (n, height, width) greys x in 0..1, read as probabilities of white.
        generator: of the images' device; n * l normal numbers are drawn.

    Returns:
        (n, height * width) binary cross-entropy -x ln y - (1 - x) ln(1 - y) of each pixel, and (n,) the KL divergence
        of the code's distribution from the standard normal one.
    """
    mean, log_variance = network.encode(images)
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    logits = network.decode(mean + noise * (0.5 * log_variance).exp())
    pixels = nn.functional.binary_cross_entropy_with_logits(logits, images, reduction="none")
    divergence = 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(dim=1)
    return pixels.flatten(1), divergence


# Truncation of an autoencoder's loss: the pixels or the images that the model is sure of carry none.
#
# Rule: what is left out is decided without gradient, batch by batch.
#
# legend: n images of a batch, p pixels of an image


class CutLoss(NamedTuple):
    """The sum of what a batch's loss keeps, in nats, and how much that is of its pixels or images."""

    total: Tensor
    kept: Tensor
    """(n, p) of pixels or (n,) of images, boolean."""


def cut_loss(
    pixels: Tensor, divergence: Tensor, cut: PixelCut | SampleCut | None, generator: torch.Generator
) -> CutLoss:
    """The loss of a batch: the negative evidence bound, without what `cut` leaves out.

    Args:
        pixels: (n, p) negative log-likelihood of each pixel, in nats.
        divergence: (n,) KL divergence of each image's code, which no cut of pixels touches.
        cut: what to leave out; None leaves out nothing.
        generator: of the tensors' device; only controls draw from it.
    """
    match cut:
        case None:
            return CutLoss(pixels.sum() + divergence.sum(), torch.ones_like(divergence, dtype=torch.bool))
        case PixelCut():
            kept = truncation_mask(pixels, threshold=cut.threshold)
            if cut.control == "random":
                kept = _shuffled(kept, generator)
            return CutLoss((pixels * kept).sum() + divergence.sum(), kept)
        case SampleCut():
            each = pixels.sum(dim=1) + divergence
            kept = torch.ones_like(each, dtype=torch.bool)
            # The highest evidence bound is the smallest loss.
            surest = each.detach().argsort(stable=True)[: truncated_count(cut, len(each))]
            kept[surest] = False
            if cut.control == "random":
                kept = _shuffled(kept, generator)
            return CutLoss((each * kept).sum(), kept)


def truncated_count(cut: SampleCut, batch: int) -> int:
    """How many images of a batch of `batch` are left out, to the nearest whole number.

    Raises:
        ConfigError: all of them would be, or none.
    """
    count = round(cut.share * batch)
    if not 0 < count < batch:
        raise ConfigError(
            f"truncate.share: {cut.share} of a batch of {batch} images leaves out {count}. "
            "Choose a share that leaves out some and keeps some, or a larger training.batch."
        )
    return count


def _shuffled(kept: Tensor, generator: torch.Generator) -> Tensor:
    """As many of each kind, at random places."""
    order = torch.randperm(kept.numel(), generator=generator, device=kept.device)
    return kept.flatten()[order].view_as(kept)


# Training of one autoencoder: as many steps for every arm, whatever the size of its training set.


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
        truncated_count(cut, batch)
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


_AT_ONCE = 500


@dataclass(frozen=True)
class AutoencoderModel:
    """A trained network. A drawn image is the decoder's output itself, each pixel's probability of white."""

    network: Autoencoder
    facts: Mapping[str, float] = field(default_factory=dict)

    @torch.no_grad()
    def sample(self, n: int, *, seed: int) -> Pictures:
        """`n` images decoded from codes of the standard normal distribution."""
        # Drawn on the CPU, so that every device decodes the same codes.
        codes = torch.randn(n, self.network.mean.out_features, generator=torch.Generator().manual_seed(seed))
        return self._decoded(codes)

    @torch.no_grad()
    def regenerate(self, data: Pictures, *, seed: int) -> Pictures:
        """`data` image by image encoded, a code drawn for each, and decoded."""
        encoded = [self.network.encode(part) for part in self._parts(data)]
        mean, log_variance = (torch.cat(some).cpu() for some in zip(*encoded, strict=True))
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
        return self._decoded(mean + noise * (0.5 * log_variance).exp())

    @torch.no_grad()
    def codes(self, data: Pictures) -> NDArray[np.float64]:
        """(n, l): the mean of each image's code."""
        means = [self.network.encode(part)[0].cpu() for part in self._parts(data)]
        return torch.cat(means).double().numpy()

    @torch.no_grad()
    def bound(self, data: Pictures, *, seed: int) -> float:
        """The negative evidence bound in nats per image, mean over `data` with one draw each."""
        generator = torch.Generator(self._device).manual_seed(seed)
        total = 0.0
        for part in self._parts(data):
            pixels, divergence = bound_parts(self.network, part, generator)
            total += float(pixels.double().sum() + divergence.double().sum())
        return total / len(data)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, with the facts in its header."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        save_file(tensors, folder / "model.safetensors", metadata={"facts": json.dumps(dict(self.facts))})

    @property
    def _device(self) -> torch.device:
        return self.network.mean.weight.device

    def _parts(self, data: Pictures) -> Iterator[Tensor]:
        for part in torch.from_numpy(data.values).split(_AT_ONCE):
            yield as_greys(part.to(self._device))

    def _decoded(self, codes: Tensor) -> Pictures:
        greys = [self.network.decode(part.to(self._device)).sigmoid().cpu() for part in codes.split(_AT_ONCE)]
        return Pictures((255 * torch.cat(greys)).round().byte().numpy())
