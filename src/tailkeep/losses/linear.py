"""Losses from hidden states and the output layer's weight: the logits of all tokens are never in memory at once.

z = scale * (hidden @ weight.T + bias), then softcap * tanh(z / softcap)      nll = logsumexp(z) - z[target]
"""

from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.engines import Engine, select_engine
from tailkeep.losses.engines.logit_ops import accumulation_dtype
from tailkeep.losses.lm_head import Head, autocast, check_inputs, head_of
from tailkeep.losses.nll import (
    Reduction,
    check_count,
    check_ignore_index,
    check_tensors,
    clamp_count,
    count_on,
    reduce_nll,
)
from tailkeep.losses.truncation import truncated
from tailkeep.losses.weighting import Entropy, Weighting, check_weighting


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


class _HeadOptions(TypedDict, total=False):
    """What each function below takes; its overloads, which differ in the result alone, need not repeat it."""

    bias: Tensor | None
    softcap: float | None
    scale: float
    ignore_index: int
    valid_vocab_size: int | None
    impl: str


class _ReductionOptions(_HeadOptions, total=False):
    reduction: Reduction
    num_items: float | Tensor | None


class _TruncationOptions(_ReductionOptions, total=False):
    threshold: float


class _WeightingOptions(_ReductionOptions, total=False):
    expected_gradient: Tensor | None


@overload
def linear_token_nll(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, return_entropy: None = None, **head: Unpack[_HeadOptions]
) -> Tensor: ...
@overload
def linear_token_nll(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    return_entropy: Literal["full"] | int,
    **head: Unpack[_HeadOptions],
) -> tuple[Tensor, Tensor]: ...
@overload
def linear_token_nll(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, return_entropy: Entropy, **head: Unpack[_HeadOptions]
) -> Tensor | tuple[Tensor, Tensor]: ...
def linear_token_nll(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    ignore_index: int = -100,
    valid_vocab_size: int | None = None,
    return_entropy: Entropy = None,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Negative log-likelihood of each target, in nats and float32, with right gradients for any upstream ones.

    Args:
        hidden: (..., D), what enters the output layer.
        weight: (V, D), of the same floating-point type.
        targets: (...), int64, shifted by the caller; `ignore_index` gives 0.
        bias: (V,).
        softcap: positive; logits become softcap * tanh(z / softcap), as in Gemma 2.
        scale: factor of the logits before the cap, as in Cohere.
        valid_vocab_size: rows of `weight` from here on only pad the vocabulary and count for nothing.
        return_entropy: "full" or k: also give the entropy of the prediction, or of its k most likely tokens made to
            sum to 1, in nats, (...), detached, 0 where ignored.
        impl: the engine: auto, reference, chunked, triton; `explain_engine` says what auto takes and why.

    Returns:
        (...) losses, or a pair of losses and entropies.

    Raises:
        ConfigError: shapes, types, devices, factors or an engine that cannot be used.
    """
    shape = _HeadShape(bias, softcap, scale, valid_vocab_size)
    call = _Call.of(hidden, weight, targets, shape, ignore_index=ignore_index, impl=impl, entropy=return_entropy)
    nll, entropy = call.engine.token_nll(call.hidden, call.head, call.targets, entropy=return_entropy)
    return call.spread(nll) if entropy is None else (call.spread(nll), call.spread(entropy))


@overload
def linear_truncated_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    return_stats: Literal[False] = False,
    **options: Unpack[_TruncationOptions],
) -> Tensor: ...
@overload
def linear_truncated_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    return_stats: Literal[True],
    **options: Unpack[_TruncationOptions],
) -> tuple[Tensor, LossStats]: ...
@overload
def linear_truncated_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, return_stats: bool, **options: Unpack[_TruncationOptions]
) -> Tensor | tuple[Tensor, LossStats]: ...
def linear_truncated_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    threshold: float = 0.99,
    bias: Tensor | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    ignore_index: int = -100,
    valid_vocab_size: int | None = None,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
    return_stats: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, LossStats]:
    """Truncated cross-entropy in a single pass, with gradients for kept tokens only.

    Arguments of the output layer are those of `linear_token_nll`; `threshold`, `reduction` and `num_items` are those of
    `truncated_cross_entropy`.

    Returns:
        The loss, or a pair of the loss and `LossStats` if `return_stats`.

    Raises:
        ConfigError: as `linear_token_nll`, and a threshold or reduction that cannot be used.
    """
    return linear_weighted_cross_entropy(
        hidden,
        weight,
        targets,
        truncated(threshold),
        bias=bias,
        softcap=softcap,
        scale=scale,
        ignore_index=ignore_index,
        valid_vocab_size=valid_vocab_size,
        reduction=reduction,
        num_items=num_items,
        return_stats=return_stats,
        impl=impl,
    )


@overload
def linear_weighted_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weighting: Weighting,
    *,
    return_stats: Literal[False] = False,
    **options: Unpack[_WeightingOptions],
) -> Tensor: ...
@overload
def linear_weighted_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weighting: Weighting,
    *,
    return_stats: Literal[True],
    **options: Unpack[_WeightingOptions],
) -> tuple[Tensor, LossStats]: ...
@overload
def linear_weighted_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weighting: Weighting,
    *,
    return_stats: bool,
    **options: Unpack[_WeightingOptions],
) -> Tensor | tuple[Tensor, LossStats]: ...
def linear_weighted_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weighting: Weighting,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    ignore_index: int = -100,
    valid_vocab_size: int | None = None,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
    expected_gradient: Tensor | None = None,
    return_stats: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, LossStats]:
    """Cross-entropy under any `weighting`, in a single pass; arguments as in `linear_truncated_cross_entropy`.

    The single pass needs a loss that is a sum of token losses times one number, as every reduction but `none` is. With
    `none`, differing upstream gradients cost a second computation of the logits, and are right too; a scalar
    `expected_gradient`, such as 1 / number of targets, saves a pass over the weight's gradient where they all equal it.
    """
    check_weighting(weighting)
    shape = _HeadShape(bias, softcap, scale, valid_vocab_size)
    call = _Call.of(hidden, weight, targets, shape, ignore_index=ignore_index, impl=impl, entropy=weighting.entropy)
    weighting.check_not_recomputed()
    if num_items is not None:
        check_count(num_items)
    if expected_gradient is not None:
        _check_expected(expected_gradient, reduction)
    elif reduction == "mean":
        expected_gradient = share_of(len(call.targets) if num_items is None else num_items, call.hidden)
    rows = call.engine.weighted(call.hidden, call.head, call.targets, weighting, expected=expected_gradient)
    weighting.move_on(rows.nll)
    loss = reduce_nll(
        call.spread(rows.losses),
        call.spread(rows.weights != 0),
        valid=call.valid.view(call.shape),
        reduction=reduction,
        num_items=num_items,
    )
    if not return_stats:
        return loss
    stats = LossStats(
        (rows.weights != 0).float().mean(),
        rows.nll.mean(),
        torch.exp(-rows.nll).mean(),
        rows.correct.float().mean(),
        count_on(rows.nll.device, len(rows.nll)),
    )
    return loss, stats


def explain_engine(hidden: Tensor) -> str:
    """Which engine `impl="auto"` takes for such hidden states, and why, in one sentence."""
    return select_engine("auto", hidden)[1]


def _check_expected(gradient: Tensor, reduction: Reduction) -> None:
    if reduction not in ("none", "sum"):
        raise ConfigError(f"expected_gradient has no effect with reduction {reduction!r}. Leave it out.")
    if not isinstance(gradient, Tensor) or gradient.ndim != 0:
        raise ConfigError(f"expected_gradient {gradient!r} is no scalar tensor. Give 1 / targets, for one.")


def share_of(num_items: float | Tensor, hidden: Tensor) -> Tensor:
    """The gradient of a mean over `num_items` at each loss, to the bit that division would give."""
    one = torch.ones((), dtype=accumulation_dtype(hidden.dtype), device=hidden.device)
    return one / clamp_count(count_on(hidden.device, num_items))


@dataclass(frozen=True)
class _HeadShape:
    """What a caller says of the output layer beside its weight."""

    bias: Tensor | None
    softcap: float | None
    scale: float
    valid_vocab_size: int | None


@dataclass(frozen=True)
class _Call:
    """Checked inputs without the tokens that do not count; `places` are those of the others, None if all count."""

    engine: Engine
    hidden: Tensor
    head: Head
    targets: Tensor
    shape: torch.Size
    valid: Tensor
    places: Tensor | None

    @classmethod
    def of(
        cls,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        options: "_HeadShape",
        *,
        ignore_index: int,
        impl: str,
        entropy: Entropy,
    ) -> "_Call":
        check_tensors(hidden=hidden, weight=weight, targets=targets)
        if options.bias is not None:
            check_tensors(bias=options.bias)
        check_ignore_index(ignore_index)
        hidden, weight, bias = autocast(hidden, weight, options.bias)
        head = head_of(
            weight, bias=bias, scale=options.scale, softcap=options.softcap, valid_vocab_size=options.valid_vocab_size
        )
        targets, valid, all_valid = check_inputs(hidden, head, targets, ignore_index=ignore_index)
        if entropy is not None and entropy != "full" and not (type(entropy) is int and entropy >= 1):
            raise ConfigError(f'return_entropy {entropy!r} is neither "full" nor a number of tokens, at least 1.')
        engine, _ = select_engine(impl, hidden)
        shape = targets.shape
        flat, targets, valid = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1), valid.reshape(-1)
        if all_valid:
            return cls(engine, flat, head, targets, shape, valid, None)
        places = valid.nonzero().squeeze(1)
        return cls(engine, flat[places], head, targets[places], shape, valid, places)

    def spread(self, values: Tensor) -> Tensor:
        """One value for each counted token, at its place; 0 (or False) elsewhere."""
        if self.places is None:
            return values.view(self.shape)
        empty = torch.zeros(len(self.valid), dtype=values.dtype, device=values.device)
        return empty.index_copy(0, self.places, values).view(self.shape)
