"""Weighted cross-entropy of logits that exist, as a function and as a module. From hidden states see `linear`.

Rule: a weighting sees valid targets only, in their order, as in `linear`, so that both give the same loss. The module
has the shapes of `torch.nn.CrossEntropyLoss`; at threshold 1 it gives the same values, but 0 for NaN without a target.
"""

from typing import Unpack, get_args

import torch
from torch import Tensor, nn

from tailkeep.errors import ConfigError
from tailkeep.losses.checks import check_count, check_ignore_index, check_tensors
from tailkeep.losses.engines.reference import entropy_of
from tailkeep.losses.nll import Reduction, token_nll, whole
from tailkeep.losses.terms import LossTerms, TermOptions, reduce_logit_losses
from tailkeep.losses.truncation import check_threshold, truncated_cross_entropy
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
    **terms: Unpack[TermOptions],
) -> Tensor:
    """Cross-entropy under any `weighting`.

    Args:
        logits: (..., V).
        targets: (...), int64; `ignore_index` marks targets that do not count.
        weighting: called once for the whole micro-batch; one with a state then moves on.
        reduction: see `reduce_nll`; the mean is over all valid targets, those without weight included.
        num_items: the denominator of the mean for gradient accumulation and several ranks.
        **terms: `label_smoothing`, `class_weight` and `z_loss`, see `LossTerms`.

    Raises:
        ConfigError: shapes, types, a reduction or a term that cannot be used.
    """
    check_weighting(weighting)
    loss_terms = LossTerms(**terms)
    weighting.check_not_recomputed()
    if num_items is not None:
        check_count(num_items)
    nll = token_nll(logits, targets, ignore_index=ignore_index)
    valid = whole(targets) != ignore_index
    counted = nll[valid]
    factors = weighting.factors(counted, prediction_entropy(logits, valid, weighting))
    weighting.move_on(counted)
    weights = torch.zeros_like(nll).masked_scatter(valid, factors.to(nll.dtype))
    return reduce_logit_losses(
        logits, targets, nll, weights, valid=valid, terms=loss_terms, reduction=reduction, num_items=num_items
    )


def prediction_entropy(logits: Tensor, valid: Tensor, weighting: Weighting) -> Tensor | None:
    """(n,) entropies of the `valid` predictions that `weighting` requests, or None."""
    if weighting.entropy is None:
        return None
    # In pieces, since each needs copies of its logits in float32.
    pieces = (entropy_of(rows.float(), weighting.entropy) for rows in torch.split(logits.detach()[valid], _ROWS))
    return torch.cat([piece for piece in pieces if piece is not None])


class TruncatedCrossEntropyLoss(nn.Module):
    """[p <= threshold] times torch's loss, class weights and label smoothing included; p is the target's probability.

    The decision falls on p alone. As in torch the mean divides by the sum of class weights over all valid targets, here
    truncated ones included; `mean_kept` divides by the sum over kept ones.

    Args:
        threshold: a probability in (0, 1]; 1 is plain cross-entropy.
        weight: (C,), a factor for each class, 1 for all if not given.
        ignore_index: marks targets that do not count.
        reduction: see `reduce_nll`.
        label_smoothing, z_loss: see `LossTerms`. A truncated target has no loss of either kind.

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
        z_loss: float = 0.0,
    ) -> None:
        super().__init__()
        check_threshold(threshold)
        if reduction not in get_args(Reduction):
            raise ConfigError(f"reduction {reduction!r} is unknown. Use one of {', '.join(get_args(Reduction))}.")
        check_ignore_index(ignore_index)
        LossTerms(label_smoothing, weight, z_loss)
        self.threshold = threshold
        self.ignore_index = ignore_index
        self.reduction: Reduction = reduction
        self.label_smoothing = label_smoothing
        self.z_loss = z_loss
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
        return truncated_cross_entropy(
            self._class_last(input, target),
            target,
            threshold=self.threshold,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            num_items=num_items,
            label_smoothing=self.label_smoothing,
            class_weight=self.weight,
            z_loss=self.z_loss,
        )

    def extra_repr(self) -> str:
        """What `repr` shows between the brackets."""
        terms = {"label_smoothing": self.label_smoothing, "z_loss": self.z_loss}
        shown = "".join(f", {name}={value}" for name, value in terms.items() if value)
        return f"threshold={self.threshold}, ignore_index={self.ignore_index}, reduction={self.reduction!r}{shown}"

    def _class_last(self, input: Tensor, target: Tensor) -> Tensor:
        whole(target)
        axis = min(input.ndim - 1, 1)
        if input.ndim == 0 or target.shape != input.shape[:axis] + input.shape[axis + 1 :]:
            raise ConfigError(
                f"input {tuple(input.shape)} does not fit target {tuple(target.shape)}. "
                "Give logits (C,), (N, C) or (N, C, d1, ...) and class indices without the class axis."
            )
        return input.movedim(axis, -1)
