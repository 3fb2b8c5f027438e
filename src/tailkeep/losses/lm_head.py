"""The output layer of a language model, as the fused losses see it, and the checks that come before any arithmetic.

logits = capped(scale * (hidden @ weight.T + bias))      capped(z) = softcap * tanh(z / softcap), or z

A low-rank product may be added to hidden @ weight.T, as by LoRA on the output layer.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.checks import check_number, check_whole_number
from tailkeep.losses.nll import whole


@dataclass(frozen=True)
class LowRankProduct:
    """What is added to hidden @ weight.T: `hidden` (..., r) @ `weight` (V, r).T, of the types of the two.

    Under LoRA W + s B A, `hidden` is s * (hidden @ A.T) and `weight` is B: both get their gradients.
    """

    hidden: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Head:
    """`weight` (V, D), `bias` (V,) or None; V is the valid part of a padded vocabulary.

    `low_rank` has a row for each hidden state that the head is called with.
    """

    weight: Tensor
    bias: Tensor | None
    scale: float = 1.0
    softcap: float | None = None
    low_rank: LowRankProduct | None = None

    def tensors(self) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """All that may have a gradient: weight, bias, and both factors of the low-rank product."""
        low_rank = self.low_rank
        factors = (None, None) if low_rank is None else (low_rank.hidden, low_rank.weight)
        return (self.weight, self.bias, *factors)

    def with_tensors(self, weight: Tensor, bias: Tensor | None, *factors: Tensor | None) -> "Head":
        """The same with other `tensors`."""
        low_rank = None if factors[0] is None or factors[1] is None else LowRankProduct(factors[0], factors[1])
        return replace(self, weight=weight, bias=bias, low_rank=low_rank)


def head_of(
    weight: Tensor,
    *,
    bias: Tensor | None,
    scale: float,
    softcap: float | None,
    valid_vocab_size: int | None,
    low_rank: LowRankProduct | None = None,
) -> Head:
    """The checked head, without the rows that only pad the vocabulary.

    Raises:
        ConfigError: shapes, types or factors that cannot be used.
    """
    if weight.ndim != 2 or 0 in weight.shape:
        raise ConfigError(f"weight has the shape {tuple(weight.shape)}. Give (V, D), as nn.Linear keeps it.")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ConfigError(f"bias {tuple(bias.shape)} does not fit weight {tuple(weight.shape)}. Give (V,).")
    if low_rank is not None and (
        low_rank.weight.ndim != 2 or len(low_rank.weight) != len(weight) or not low_rank.weight.numel()
    ):
        raise ConfigError(
            f"low_rank.weight {tuple(low_rank.weight.shape)} does not fit weight {tuple(weight.shape)}. Pass (V, r), "
            "r at least 1."
        )
    check_factors(scale, softcap)
    if valid_vocab_size is not None:
        check_whole_number("valid_vocab_size", valid_vocab_size, None, "Leave it out if no row is padding.")
        if not 0 < valid_vocab_size <= len(weight):
            raise ConfigError(f"valid_vocab_size {valid_vocab_size} is not in 1 to {len(weight)}, the rows of weight.")
        weight = weight[:valid_vocab_size]
        bias = None if bias is None else bias[:valid_vocab_size]
        if low_rank is not None:
            low_rank = replace(low_rank, weight=low_rank.weight[:valid_vocab_size])
    return Head(weight, bias, scale, softcap, low_rank)


def check_factors(scale: float, softcap: float | None) -> None:
    """Refuse factors of the logits that cannot be used.

    Raises:
        ConfigError: they are not finite, 0, or a cap below 0.
    """
    check_number("scale", scale, "(-inf, inf)", "1 leaves the logits as they are.")
    if scale == 0:
        raise ConfigError(f"scale {scale} leaves nothing of the logits. 1 leaves them as they are.")
    if softcap is not None:
        check_number("softcap", softcap, "(0, inf)", "Leave it out where the model has none.")


def check_inputs(hidden: Tensor, head: Head, targets: Tensor, *, ignore_index: int) -> tuple[Tensor, Tensor, bool]:
    """If all fits together: the targets as int64, which of them count, and whether all do.

    The device is waited for once.

    Raises:
        ConfigError: shapes, types, devices, or a target outside the vocabulary.
    """
    weight, targets = head.weight, whole(targets)
    if hidden.ndim < 1 or hidden.shape[:-1] != targets.shape or hidden.shape[-1] != weight.shape[1]:
        raise ConfigError(
            f"hidden {tuple(hidden.shape)}, weight {tuple(weight.shape)}, targets {tuple(targets.shape)} do not fit. "
            "Give hidden (..., D), weight (V, D) and targets (...), shifted by the caller."
        )
    low_rank = head.low_rank
    if low_rank is not None and low_rank.hidden.shape != (*hidden.shape[:-1], low_rank.weight.shape[1]):
        raise ConfigError(
            f"low_rank.hidden {tuple(low_rank.hidden.shape)} does not fit hidden {tuple(hidden.shape)} and "
            f"low_rank.weight {tuple(low_rank.weight.shape)}. Pass (..., r) and (V, r)."
        )
    tensors = [hidden, *(tensor for tensor in head.tensors() if tensor is not None)]
    if not all(tensor.is_floating_point() for tensor in tensors) or len({tensor.dtype for tensor in tensors}) > 1:
        types = ", ".join(str(tensor.dtype) for tensor in tensors)
        raise ConfigError(f"hidden and the output layer's tensors are {types}. Give one floating-point type to all.")
    if len({tensor.device for tensor in (*tensors, targets)}) > 1:
        places = ", ".join(str(tensor.device) for tensor in (*tensors, targets))
        raise ConfigError(f"hidden, weight, bias and targets are on {places}. Move them to one device.")
    valid = targets != ignore_index
    if targets.numel() == 0:
        return targets, valid, True
    # 0 is in every vocabulary.
    low, high = torch.aminmax(torch.where(valid, targets, 0))
    low, high, counted = torch.stack([low, high, valid.sum()]).tolist()
    if low < 0 or high >= len(weight):
        wrong = low if low < 0 else high
        raise ConfigError(
            f"target {wrong} is outside the vocabulary of {len(weight)}. "
            f"Mark targets that do not count with ignore_index, which is {ignore_index}."
        )
    return targets, valid, counted == targets.numel()


def autocast(hidden: Tensor, *others: Tensor | None) -> tuple[Any, ...]:
    """What nn.Linear would multiply under autocast: all in its type, None as it is."""
    tensors = (hidden, *others)
    if not torch.is_autocast_enabled(hidden.device.type) or hidden.dtype == torch.float64:
        return tensors
    dtype = torch.get_autocast_dtype(hidden.device.type)
    return tuple(None if tensor is None else tensor.to(dtype) for tensor in tensors)
