"""Leaving out the examples with the lowest losses, or as many at random."""

import torch
from torch import Tensor

from tailkeep.errors import ConfigError


def kept_examples(losses: Tensor, *, share: float, at_random: bool, generator: torch.Generator) -> Tensor:
    """Which of n examples stay when the `share` with the lowest `losses` (n,) is left out; (n,) boolean, detached.

    Args:
        losses: (n,), any numbers of which low ones mean that the model is sure.
        share: between 0 and 1; see `left_out`.
        at_random: leave out as many of any: the control.
        generator: of the losses' device; only the control draws from it.

    Raises:
        ConfigError: nothing would be left out, or all.
    """
    values = losses.detach()
    if at_random:
        values = torch.rand(values.shape, generator=generator, device=values.device)
    kept = torch.ones_like(values, dtype=torch.bool)
    kept[values.argsort(stable=True)[: left_out(share, len(values))]] = False
    return kept


def left_out(share: float, count: int) -> int:
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
