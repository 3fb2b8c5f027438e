"""The output layer of a language model, as the fused losses see it, and the checks that come before any arithmetic.

logits = capped(scale * (hidden @ weight.T + bias))      capped(z) = softcap * tanh(z / softcap), or z
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.nll import whole


@dataclass(frozen=True)
class Head:
    """`weight` (V, D), `bias` (V,) or None; V is the valid part of a padded vocabulary."""

    weight: Tensor
    bias: Tensor | None
    scale: float = 1.0
    softcap: float | None = None


def head_of(
    weight: Tensor,
    *,
    bias: Tensor | None,
    scale: float,
    softcap: float | None,
    valid_vocab_size: int | None,
) -> Head:
    """The checked head, without the rows that only pad the vocabulary.

    Raises:
        ConfigError: shapes, types or factors that cannot be used.
    """
    if weight.ndim != 2 or 0 in weight.shape:
        raise ConfigError(f"weight has the shape {tuple(weight.shape)}. Give (V, D), as nn.Linear keeps it.")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ConfigError(f"bias {tuple(bias.shape)} does not fit weight {tuple(weight.shape)}. Give (V,).")
    check_factors(scale, softcap)
    if valid_vocab_size is not None:
        if not 0 < valid_vocab_size <= len(weight):
            raise ConfigError(f"valid_vocab_size {valid_vocab_size} is not in 1 to {len(weight)}, the rows of weight.")
        weight = weight[:valid_vocab_size]
        bias = None if bias is None else bias[:valid_vocab_size]
    return Head(weight, bias, scale, softcap)


def check_factors(scale: float, softcap: float | None) -> None:
    """Refuse factors of the logits that cannot be used.

    Raises:
        ConfigError: they are not finite, 0, or a cap below 0.
    """
    if not (math.isfinite(scale) and scale != 0):
        raise ConfigError(f"scale {scale} is not a finite number other than 0. 1 leaves the logits as they are.")
    if softcap is not None and not 0 < softcap < math.inf:
        raise ConfigError(f"softcap {softcap} is not in (0, inf). Leave it out where the model has none.")


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
    tensors = [hidden, weight, *([] if head.bias is None else [head.bias])]
    if not all(tensor.is_floating_point() for tensor in tensors) or len({tensor.dtype for tensor in tensors}) > 1:
        types = ", ".join(str(tensor.dtype) for tensor in tensors)
        raise ConfigError(f"hidden, weight and bias are {types}. Give one floating-point type to all.")
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


def autocast(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """What nn.Linear would multiply under autocast."""
    if not torch.is_autocast_enabled(hidden.device.type) or hidden.dtype == torch.float64:
        return hidden, weight, bias
    dtype = torch.get_autocast_dtype(hidden.device.type)
    return hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
