"""What a token's loss may have beside its NLL: label smoothing, class weights and a penalty on the log-sum-exp.

    loss = (1 - e) * w[y] * nll + e * (mean_c w[c] * lse - mean_c w[c] z[c]) + z_loss * lse^2

y is the target, e is `label_smoothing`, w is `class_weight` or 1, lse = logsumexp(z). Without `z_loss` it is that of
torch.nn.functional.cross_entropy. Rule: a weighting judges the plain NLL alone, and its factor multiplies all of the
loss: a truncated token has none of any kind, and costs no backward pass.
"""

from dataclasses import dataclass, replace
from typing import TypedDict

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.checks import check_number, check_tensors
from tailkeep.losses.nll import Reduction, reduce_nll


class TermOptions(TypedDict, total=False):
    """The options of `LossTerms`, as the functions take them."""

    label_smoothing: float
    class_weight: Tensor | None
    z_loss: float


_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


@dataclass(frozen=True, eq=False)
class LossTerms:
    """The terms of a token's loss; the default is its NLL alone.

    Args:
        label_smoothing: share e in [0, 1] of the loss that falls on all classes alike.
        class_weight: (V,), at least 0, without a gradient: a factor per class. The reductions `mean` and `mean_kept`
            then divide by the sum of the targets' factors, as torch does, unless the caller says `num_items`.
        z_loss: factor of lse^2, at least 0. PaLM (arXiv 2204.02311) has 1e-4.

    Raises:
        ConfigError: a value that cannot be used.
    """

    label_smoothing: float = 0.0
    class_weight: Tensor | None = None
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        check_number("label_smoothing", self.label_smoothing, "[0, 1]", "0 turns it off, 0.1 is a usual choice.")
        check_number("z_loss", self.z_loss, "[0, inf)", "0 turns it off, 1e-4 is a usual choice.")
        weights = self.class_weight
        if weights is None:
            return
        check_tensors(class_weight=weights)
        if weights.ndim != 1 or weights.dtype not in _FLOATS:
            raise ConfigError(
                f"class_weight is {tuple(weights.shape)} of {weights.dtype}. Pass one floating-point weight per class."
            )
        if weights.requires_grad:
            raise ConfigError("class_weight requires a gradient and would get none. Pass class_weight.detach().")
        # On a GPU a look at it would wait for the device, and a graph of torch.compile knows no values.
        if torch.compiler.is_compiling() or weights.device.type != "cpu":
            return
        if not bool((weights >= 0).all() & weights.isfinite().all()):
            raise ConfigError("class_weight has a value that is negative or not finite. Pass weights of at least 0.")

    @property
    def is_plain(self) -> bool:
        """Whether a loss depends on the logits through its NLL alone."""
        return self.label_smoothing == 0 and self.z_loss == 0

    def options(self) -> TermOptions:
        """The same as keyword arguments."""
        return {
            "label_smoothing": self.label_smoothing,
            "class_weight": self.class_weight,
            "z_loss": self.z_loss,
        }

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "LossTerms":
        """The same with the class weights there."""
        weights = self.class_weight
        return self if weights is None else replace(self, class_weight=weights.to(device, dtype or weights.dtype))

    def fit(self, vocabulary: int, device: torch.device, dtype: torch.dtype) -> "LossTerms":
        """The same with class weights of `dtype`.

        Raises:
            ConfigError: weights of another number of classes or on another device.
        """
        weights = self.class_weight
        if weights is not None and len(weights) != vocabulary:
            raise ConfigError(
                f"class_weight has {len(weights)} classes, the logits {vocabulary}. Pass one weight per class."
            )
        if weights is not None and weights.device != device:
            raise ConfigError(f"class_weight is on {weights.device}, the logits on {device}. Move one to the other.")
        return self.to(device, dtype)

    def token_losses(self, nll: Tensor, lse: Tensor, mean_logits: Tensor | None, targets: Tensor) -> Tensor:
        """(n,) losses of n valid targets; `mean_logits` is only read under label smoothing."""
        losses = nll if self.class_weight is None else nll * self.class_weight[targets]
        if self.label_smoothing:
            assert mean_logits is not None, "an engine computes the mean logit under label smoothing"
            mean_weight = 1.0 if self.class_weight is None else self.class_weight.mean()
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * (mean_weight * lse - mean_logits)
        return losses + self.z_loss * lse.square() if self.z_loss else losses

    def mean_logits(self, logits: Tensor) -> Tensor | None:
        """(n,) mean_c w[c] z[c] of `logits` (n, V); None without label smoothing, which alone needs it."""
        if not self.label_smoothing:
            return None
        if self.class_weight is None:
            return logits.mean(1)
        # Autocast would compute the product in half precision, whose sum over a vocabulary leaves float16.
        with torch.autocast(logits.device.type, enabled=False):
            return logits @ self.class_weight / logits.shape[1]

    def denominator(
        self, targets: Tensor, counted: Tensor | None, reduction: Reduction, num_items: float | Tensor | None
    ) -> tuple[Reduction, float | Tensor | None]:
        """The reduction and what it divides by: the class weights of the targets that are `counted`, if there are any.

        `counted` is of the shape of `targets`, those that the mean is over; None is all of them.
        """
        if self.class_weight is None or num_items is not None or reduction not in ("mean", "mean_kept"):
            return reduction, num_items
        # Summed in at least float32: the weights of many targets in half precision overflow, or stop growing.
        wide = torch.promote_types(self.class_weight.dtype, torch.float32)
        if counted is None:
            return "mean", self.class_weight[targets].sum(dtype=wide)
        weights = self.class_weight[torch.where(counted, targets, 0)]
        return "mean", torch.where(counted, weights, 0).sum(dtype=wide)


def reduce_logit_losses(
    logits: Tensor,
    targets: Tensor,
    nll: Tensor,
    weights: Tensor,
    *,
    valid: Tensor,
    terms: LossTerms,
    reduction: Reduction,
    num_items: float | Tensor | None,
) -> Tensor:
    """`reduce_nll` of losses with `terms`, of logits (..., V) whose `nll` (...) is known.

    Raises:
        ConfigError: as `reduce_nll`, and class weights that do not fit.
    """
    terms = terms.fit(logits.shape[-1], logits.device, nll.dtype)
    targets = targets.long()
    losses = nll
    if terms.class_weight is not None or not terms.is_plain:
        rows = logits[valid].to(nll.dtype)
        counted = terms.token_losses(nll[valid], rows.logsumexp(-1), terms.mean_logits(rows), targets[valid])
        losses = torch.zeros_like(nll).masked_scatter(valid, counted)
    counted = valid & (weights != 0) if reduction == "mean_kept" else valid
    reduction, num_items = terms.denominator(targets, counted, reduction, num_items)
    return reduce_nll(losses, weights, valid=valid, reduction=reduction, num_items=num_items)


NLL_ALONE = LossTerms()
TERM_NAMES = frozenset(TermOptions.__annotations__)
