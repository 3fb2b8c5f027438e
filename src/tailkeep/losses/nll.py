"""Per-token negative log-likelihood, its reductions, which all losses here share, and what a pass saw of its targets.

Rule: the mean divides by all valid targets, kept or not. Dividing by the kept ones would undo part of what
a weighting does, and could not be the same for every split of a batch into micro-batches.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.checks import check_count, check_ignore_index, check_tensors

Reduction = Literal["none", "sum", "mean", "mean_kept"]


def token_nll(logits: Tensor, targets: Tensor, *, ignore_index: int = -100) -> Tensor:
    """Negative log-likelihood of each target, in nats and in float32 whatever the logits' type.

    Args:
        logits: (..., V).
        targets: (...), int64; positions equal to `ignore_index` give 0.

    Raises:
        ConfigError: the shapes or devices do not fit, the logits are no real numbers or the targets no integers.
    """
    check_tensors(logits=logits, targets=targets)
    check_ignore_index(ignore_index)
    targets = whole(targets)
    if logits.ndim == 0 or logits.shape[-1] == 0 or logits.shape[:-1] != targets.shape:
        raise ConfigError(
            f"logits {tuple(logits.shape)} do not fit targets {tuple(targets.shape)}. "
            "Give logits (..., V) and targets (...), shifted by the caller."
        )
    if not logits.is_floating_point():
        raise ConfigError(f"logits are {logits.dtype}. Give unnormalised log-probabilities as floating point.")
    if logits.device != targets.device:
        raise ConfigError(f"logits are on {logits.device}, targets on {targets.device}. Move one to the other.")
    try:
        flat = F.cross_entropy(
            logits.reshape(-1, logits.shape[-1]).float(),
            targets.reshape(-1),
            ignore_index=ignore_index,
            reduction="none",
        )
    except IndexError as error:  # on a CPU; a GPU asserts
        raise ConfigError(
            f"a target is outside the vocabulary of {logits.shape[-1]} ({error}). "
            f"Mark targets that do not count with ignore_index, which is {ignore_index}."
        ) from None
    return flat.view(targets.shape)


def whole(targets: Tensor) -> Tensor:
    """The targets as int64, which holds every ignore_index.

    Raises:
        ConfigError: they are no integers.
    """
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        soft = ", as soft targets (class probabilities) are" if targets.is_floating_point() else ""
        raise ConfigError(
            f"targets are {targets.dtype}{soft}. Pass class indices as int64: truncation judges the probability of one "
            "target. For soft targets use torch.nn.functional.cross_entropy."
        )
    return targets.long()


def check_reduction(reduction: Reduction, num_items: float | Tensor | None) -> None:
    """Refuse a reduction that does not exist, and a denominator that it would not use or that is no count.

    Raises:
        ConfigError: one of these.
    """
    if reduction not in get_args(Reduction):
        raise ConfigError(f"reduction {reduction!r} is unknown. Use one of {', '.join(get_args(Reduction))}.")
    if num_items is None:
        return
    if reduction != "mean":
        raise ConfigError(f"num_items has no effect with reduction {reduction!r}. Leave it out, or use 'mean'.")
    check_count(num_items)


def reduce_nll(
    nll: Tensor,
    weights: Tensor,
    *,
    valid: Tensor | None = None,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Tensor:
    """The weighted per-token losses as one number, or as they are.

    Args:
        nll: (...) per-token losses, 0 where a target is ignored.
        weights: (...) factors of the same shape, boolean or float.
        valid: (...) boolean, which targets count; all of them if not given.
        reduction: `none`: per token. `sum`. `mean`: over all valid targets, or over `num_items`.
            `mean_kept`: over targets of non-zero weight, per micro-batch, so it depends on how a batch is split.
        num_items: the denominator of `mean`: the valid targets of the whole accumulation window. Where ranks average
            their gradients, as DDP does, those of all ranks divided by their number. 0 divides by 1.

    Returns:
        A scalar, or (...) for `none`. Without a valid or kept target it is a zero that is connected to `nll`,
        so that every rank runs its backward pass.

    Raises:
        ConfigError: an unknown reduction, `num_items` with one that would not use it, that is no finite number of at
            least 0 (not read on a GPU, where a look at it would wait for the device), or shapes that differ.
    """
    check_tensors(nll=nll, weights=weights, **({} if valid is None else {"valid": valid}))
    check_reduction(reduction, num_items)
    if valid is not None and valid.dtype != torch.bool:
        raise ConfigError(f"valid is {valid.dtype}. Give a boolean mask of the targets that count.")
    if nll.dtype in (torch.bfloat16, torch.float16):
        nll = nll.float()  # a sum over a batch leaves the range of float16
    valid = torch.ones_like(nll, dtype=torch.bool) if valid is None else valid
    # Broadcasting would turn a wrong axis into a wrong number without a word.
    if not nll.shape == weights.shape == valid.shape:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (nll, weights, valid))
        raise ConfigError(f"nll, weights and valid have the shapes {shapes}. Give one shape to all.")
    kept_mask = valid & (weights != 0)
    weighted = torch.where(kept_mask, nll * weights, nll.new_zeros(()))
    if reduction == "none":
        return weighted
    total = weighted.sum()
    if reduction == "sum":
        return total
    if num_items is None:
        num_items = (kept_mask if reduction == "mean_kept" else valid).sum()
    return total / clamp_count(count_on(total.device, num_items))


def count_on(device: torch.device, num_items: float | Tensor) -> Tensor:
    """`num_items` as a scalar there. A number is written there, since a copy of it would wait for the device.

    Raises:
        ConfigError: a tensor or array of several numbers.
    """
    if isinstance(num_items, int | float):
        # The default type may be one that counts no further than 256.
        wide = torch.promote_types(torch.get_default_dtype(), torch.float32)
        return torch.full((), num_items, dtype=wide if isinstance(num_items, float) else None, device=device)
    count = torch.as_tensor(num_items, device=device)
    if count.numel() != 1:
        raise ConfigError(
            f"num_items has the shape {tuple(count.shape)}. Give one number: the valid targets of the whole step."
        )
    return count.reshape(())


def clamp_count(num_items: Tensor) -> Tensor:
    """`num_items`, or 1 in place of 0: a step without a valid target has a loss of 0."""
    return torch.where(num_items == 0, torch.ones_like(num_items), num_items)


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
