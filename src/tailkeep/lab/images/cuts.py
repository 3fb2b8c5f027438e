"""Truncation of an autoencoder's loss: the pixels or the images that the model is sure of carry none.

Rule: what is left out is decided without gradient, batch by batch.

legend: n images of a batch, p pixels of an image
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.lab.images.settings import PixelCut, SampleCut
from tailkeep.losses import truncation_mask


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
            if cut.at_random:
                kept = _shuffled(kept, generator)
            return CutLoss((pixels * kept).sum() + divergence.sum(), kept)
        case SampleCut():
            each = pixels.sum(dim=1) + divergence
            kept = torch.ones_like(each, dtype=torch.bool)
            # The highest evidence bound is the smallest loss.
            surest = each.detach().argsort(stable=True)[: left_out(cut, len(each))]
            kept[surest] = False
            if cut.at_random:
                kept = _shuffled(kept, generator)
            return CutLoss((each * kept).sum(), kept)


def left_out(cut: SampleCut, batch: int) -> int:
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
