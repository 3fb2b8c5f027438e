"""Weighted cross-entropy of logits that exist, as a function and as a module. From hidden states see `linear`.

Rule: a weighting sees valid targets only, in their order, as in `linear`, so that both give the same loss. The module
has the shapes of `torch.nn.CrossEntropyLoss`; at threshold 1 it gives the same values, but 0 for NaN without a target.
"""

from typing import get_args

import torch
from torch import Tensor, nn

from tailkeep.errors import ConfigError
from tailkeep.losses.engines.reference import entropy_of
from tailkeep.losses.nll import (
    Reduction,
    check_count,
    check_ignore_index,
    check_tensors,
    clamp_count,
    reduce_nll,
    token_nll,
)
from tailkeep.losses.truncation import check_threshold, truncation_mask
from tailkeep.losses.weighting import Weighting, check_weighting

_ROWS = 256


def weighted_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weighting: Weighting,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Tensor:
    """Cross-entropy under any `weighting`.

    Args:
        logits: (..., V).
        targets: (...), int64; `ignore_index` marks targets that do not count.
        weighting: called once for the whole micro-batch; one with a state then moves on.
        reduction: see `reduce_nll`; the mean is over all valid targets, those without weight included.
        num_items: the denominator of the mean for gradient accumulation and several ranks.

    Raises:
        ConfigError: shapes, types or a reduction that cannot be used.
    """
    check_weighting(weighting)
    weighting.check_not_recomputed()
    if num_items is not None:
        check_count(num_items)
    nll = token_nll(logits, targets, ignore_index=ignore_index)
    valid = targets != ignore_index
    counted = nll[valid]
    factors = weighting.factors(counted, prediction_entropy(logits, valid, weighting))
    weighting.move_on(counted)
    weights = torch.zeros_like(nll).masked_scatter(valid, factors.to(nll.dtype))
    return reduce_nll(nll, weights, valid=valid, reduction=reduction, num_items=num_items)


def prediction_entropy(logits: Tensor, valid: Tensor, weighting: Weighting) -> Tensor | None:
    """(n,) entropies of the `valid` predictions that `weighting` requests, or None."""
    if weighting.entropy is None:
        return None
    # In pieces, since each needs copies of its logits in float32.
    pieces = (entropy_of(rows.float(), weighting.entropy) for rows in torch.split(logits.detach()[valid], _ROWS))
    return torch.cat([piece for piece in pieces if piece is not None])


class TruncatedCrossEntropyLoss(nn.Module):
    """[p <= threshold] * w * -ln p, p being the target's probability and w the weight of its class.

    The decision falls on p alone. As in torch the mean divides by the sum of w over all valid targets, here truncated
    ones included; `mean_kept` divides by the sum over kept ones.

    Args:
        threshold: a probability in (0, 1]; 1 is plain cross-entropy.
        weight: (C,), a factor for each class, 1 for all if not given.
        ignore_index: marks targets that do not count.
        reduction: see `reduce_nll`.
        label_smoothing: 0 alone. Smoothing pulls a high-confidence token back by the very gradient that truncation
            removes, so the two together have no clear meaning.

    Raises:
        ConfigError: a threshold, class weights or smoothing that cannot be used.
    """

    weight: Tensor | None

    def __init__(
        self,
        threshold: float = 0.99,
        *,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        check_threshold(threshold)
        if reduction not in get_args(Reduction):
            raise ConfigError(f"reduction {reduction!r} is unknown. Use one of {', '.join(get_args(Reduction))}.")
        if label_smoothing != 0:
            raise ConfigError(
                f"label_smoothing {label_smoothing} does not go with truncation, which excludes the high-confidence "
                "tokens that smoothing would pull back. Leave it at 0, or use torch.nn.CrossEntropyLoss."
            )
        check_ignore_index(ignore_index)
        if weight is not None:
            check_tensors(weight=weight)
        if weight is not None and not (weight.ndim == 1 and weight.is_floating_point()):
            raise ConfigError(
                f"weight is {tuple(weight.shape)} of {weight.dtype}. Give a floating-point factor a class."
            )
        self.threshold = threshold
        self.ignore_index = ignore_index
        self.reduction: Reduction = reduction
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor, *, num_items: float | Tensor | None = None) -> Tensor:
        """The loss of `target` (N, d1, ...) or () under the logits `input` (N, C, d1, ...) or (C,).

        Args:
            num_items: the denominator of the mean for gradient accumulation and several ranks.

        Returns:
            A scalar, or the shape of `target` for the reduction `none`.

        Raises:
            ConfigError: shapes, types or a reduction that cannot be used.
        """
        check_tensors(input=input, target=target)
        logits = self._class_last(input, target)
        nll = token_nll(logits, target, ignore_index=self.ignore_index)
        valid = target != self.ignore_index
        kept_mask = truncation_mask(nll, threshold=self.threshold)
        if self.weight is None:
            return reduce_nll(nll, kept_mask, valid=valid, reduction=self.reduction, num_items=num_items)
        share = self.weight.to(nll.dtype)[torch.where(valid, target, 0).long()]
        if num_items is not None or self.reduction in ("none", "sum"):
            return reduce_nll(nll, kept_mask * share, valid=valid, reduction=self.reduction, num_items=num_items)
        total = reduce_nll(nll, kept_mask * share, valid=valid, reduction="sum")
        counted = valid & kept_mask if self.reduction == "mean_kept" else valid
        mass = torch.where(counted, share, share.new_zeros(())).sum()
        return total / clamp_count(mass)

    def extra_repr(self) -> str:
        """What `repr` shows between the brackets."""
        return f"threshold={self.threshold}, ignore_index={self.ignore_index}, reduction={self.reduction!r}"

    def _class_last(self, input: Tensor, target: Tensor) -> Tensor:
        axis = min(input.ndim - 1, 1)
        if input.ndim == 0 or target.shape != input.shape[:axis] + input.shape[axis + 1 :]:
            raise ConfigError(
                f"input {tuple(input.shape)} does not fit target {tuple(target.shape)}. "
                "Give logits (C,), (N, C) or (N, C, d1, ...) and class indices without the class axis."
            )
        if self.weight is not None and len(self.weight) != input.shape[axis]:
            raise ConfigError(
                f"weight has {len(self.weight)} classes, input {input.shape[axis]}. Give one factor a class."
            )
        return input.movedim(axis, -1)
