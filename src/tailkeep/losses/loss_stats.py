"""What one pass saw of its valid targets, and how a call returns it beside its loss."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tailkeep.losses.nll import count_on


@dataclass(frozen=True)
class LossStats:
    """What one pass saw of its valid targets; scalars on the loss's device, detached, NaN without a valid target.

    `kept_fraction` is the share with a weight that is not 0, `cross_entropy` the plain mean in nats, `confidence` the
    mean probability of the target, `accuracy` the share of targets that were the most likely token.
    """

    kept_fraction: Tensor
    cross_entropy: Tensor
    confidence: Tensor
    accuracy: Tensor
    targets: Tensor

    @classmethod
    def of(cls, nll: Tensor, kept_mask: Tensor, correct: Tensor, valid: Tensor | None = None) -> "LossStats":
        """Of (...) targets, all or those that are `valid`."""

        def mean(values: Tensor) -> Tensor:
            values = values.to(nll.dtype)
            return values.mean() if valid is None else torch.where(valid, values, 0).sum() / valid.sum()

        targets = count_on(nll.device, nll.numel()) if valid is None else valid.sum()
        return cls(mean(kept_mask), mean(nll), mean(torch.exp(-nll)), mean(correct), targets)

    def with_kept_of(self, part: "LossStats") -> "LossStats":
        """These statistics, with the kept fraction of a loss on a `part` of the targets: the others are dropped."""
        num_kept = torch.where(part.targets > 0, part.kept_fraction * part.targets, 0)
        return replace(self, kept_fraction=(num_kept / self.targets).to(self.kept_fraction.dtype))


def with_requested(loss: Any, *more: Any) -> Any:
    """The loss, or a tuple of it and what of `more` is not None."""
    requested = [value for value in more if value is not None]
    return (loss, *requested) if requested else loss
