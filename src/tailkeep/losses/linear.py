"""Losses from hidden states and the output layer's weight: the logits of all tokens are never in memory at once.

z = scale * (hidden @ weight.T + bias), then softcap * tanh(z / softcap)      nll = logsumexp(z) - z[target]
"""

from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.engines import TokenLosses, select_engine
from tailkeep.losses.engines.logit_ops import accumulation_dtype
from tailkeep.losses.linear_call import HeadShape, LinearCall
from tailkeep.losses.lm_head import LowRankProduct
from tailkeep.losses.nll import Reduction, check_count, clamp_count, count_on, reduce_nll
from tailkeep.losses.terms import LossTerms, TermOptions
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
    low_rank: LowRankProduct | None
    impl: str


class _ReductionOptions(_HeadOptions, TermOptions, total=False):
    reduction: Reduction
    num_items: float | Tensor | None


class _TruncationOptions(_ReductionOptions, total=False):
    threshold: float


class _WeightingOptions(_ReductionOptions, total=False):
    expected_gradient: Tensor | None


@overload
def linear_token_nll(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    return_entropy: None = None,
    return_lse: Literal[False] = False,
    **head: Unpack[_HeadOptions],
) -> Tensor: ...
@overload
def linear_token_nll(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    return_entropy: Literal["full"] | int,
    return_lse: Literal[False] = False,
    **head: Unpack[_HeadOptions],
) -> tuple[Tensor, Tensor]: ...
@overload
def linear_token_nll(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    return_entropy: None = None,
    return_lse: Literal[True],
    **head: Unpack[_HeadOptions],
) -> tuple[Tensor, Tensor]: ...
@overload
def linear_token_nll(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    return_entropy: Literal["full"] | int,
    return_lse: Literal[True],
    **head: Unpack[_HeadOptions],
) -> tuple[Tensor, Tensor, Tensor]: ...
@overload
def linear_token_nll(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    return_entropy: Entropy,
    return_lse: Literal[False] = False,
    **head: Unpack[_HeadOptions],
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
    low_rank: LowRankProduct | None = None,
    return_entropy: Entropy = None,
    return_lse: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, ...]:
    """Negative log-likelihood of each target, in nats and float32, with right gradients for any upstream ones.

    Args:
        hidden: (..., D), what enters the output layer.
        weight: (V, D), of the same floating-point type.
        targets: (...), int64, shifted by the caller; `ignore_index` gives 0.
        bias: (V,).
        softcap: positive; logits become softcap * tanh(z / softcap), as in Gemma 2.
        scale: factor of the logits before the cap, as in Cohere.
        valid_vocab_size: rows of `weight` from here on only pad the vocabulary and count for nothing.
        low_rank: a product of low rank to add to hidden @ weight.T, as of LoRA on the output layer.
        return_entropy: "full" or k: also give the entropy of the prediction, or of its k most likely tokens made to
            sum to 1, in nats, (...), detached, 0 where ignored.
        return_lse: also give logsumexp(z), (...), with right gradients for any upstream ones, 0 where ignored.
        impl: the engine: auto, reference, chunked, triton; `explain_engine` says what auto takes and why.

    Returns:
        (...) losses; with `return_entropy` or `return_lse` a tuple of losses, entropies and log-sum-exps, as requested.

    Raises:
        ConfigError: shapes, types, devices, factors or an engine that cannot be used.
    """
    shape = HeadShape(bias, softcap, scale, valid_vocab_size, low_rank)
    call = LinearCall.of(hidden, weight, targets, shape, ignore_index=ignore_index, impl=impl, entropy=return_entropy)
    nll, lse, entropy = call.engine.token_nll(call.hidden, call.head, call.targets, entropy=return_entropy)
    spread = None if entropy is None else call.spread(entropy)
    losses: Tensor | tuple[Tensor, ...] = _result(call.spread(nll), spread, call.spread(lse) if return_lse else None)
    return losses


@overload
def linear_truncated_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    return_stats: Literal[False] = False,
    return_lse: Literal[False] = False,
    **options: Unpack[_TruncationOptions],
) -> Tensor: ...
@overload
def linear_truncated_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    return_stats: Literal[True],
    return_lse: Literal[False] = False,
    **options: Unpack[_TruncationOptions],
) -> tuple[Tensor, LossStats]: ...
@overload
def linear_truncated_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    return_stats: Literal[False] = False,
    return_lse: Literal[True],
    **options: Unpack[_TruncationOptions],
) -> tuple[Tensor, Tensor]: ...
@overload
def linear_truncated_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    return_stats: Literal[True],
    return_lse: Literal[True],
    **options: Unpack[_TruncationOptions],
) -> tuple[Tensor, LossStats, Tensor]: ...
@overload
def linear_truncated_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    return_stats: bool,
    return_lse: Literal[False] = False,
    **options: Unpack[_TruncationOptions],
) -> Tensor | tuple[Tensor, LossStats]: ...
def linear_truncated_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, threshold: float = 0.99, **options: Any
) -> Any:
    """Truncated cross-entropy in a single pass, with gradients for kept tokens only.

    Args:
        hidden, weight, targets: see `linear_token_nll`.
        threshold: a probability in (0, 1]; 1 keeps every token.
        **options: those of `linear_weighted_cross_entropy`.

    Returns:
        The loss; with `return_stats` or `return_lse` a tuple as of `linear_weighted_cross_entropy`.

    Raises:
        ConfigError: as `linear_weighted_cross_entropy`, and a threshold that cannot be used.
    """
    return linear_weighted_cross_entropy(hidden, weight, targets, truncated(threshold), **options)


@overload
def linear_weighted_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weighting: Weighting,
    *,
    return_stats: Literal[False] = False,
    return_lse: Literal[False] = False,
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
    return_lse: Literal[False] = False,
    **options: Unpack[_WeightingOptions],
) -> tuple[Tensor, LossStats]: ...
@overload
def linear_weighted_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weighting: Weighting,
    *,
    return_stats: Literal[False] = False,
    return_lse: Literal[True],
    **options: Unpack[_WeightingOptions],
) -> tuple[Tensor, Tensor]: ...
@overload
def linear_weighted_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weighting: Weighting,
    *,
    return_stats: Literal[True],
    return_lse: Literal[True],
    **options: Unpack[_WeightingOptions],
) -> tuple[Tensor, LossStats, Tensor]: ...
@overload
def linear_weighted_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weighting: Weighting,
    *,
    return_stats: bool,
    return_lse: Literal[False] = False,
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
    low_rank: LowRankProduct | None = None,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
    expected_gradient: Tensor | None = None,
    return_stats: bool = False,
    return_lse: bool = False,
    impl: str = "auto",
    **terms: Unpack[TermOptions],
) -> Any:
    """Cross-entropy under any `weighting`, in a single pass; the output layer's arguments as in `linear_token_nll`.

    The single pass needs a loss that is a sum of token losses times one number, as every reduction but `none` is. With
    `none`, differing upstream gradients cost a second computation of the logits, and are right too, as are those of the
    log-sum-exps.

    Args:
        weighting: a factor per token, which judges its plain NLL; called once a chunk.
        reduction: see `reduce_nll`; the mean is over all valid targets, truncated ones included.
        num_items: the denominator of the mean for gradient accumulation and several ranks.
        expected_gradient: a scalar, such as 1 / number of targets, that saves a pass over the weight's gradient where
            the upstream gradients of `none` or `sum` all equal it.
        return_stats: also give `LossStats`.
        return_lse: also give logsumexp(z), (...), 0 where ignored.
        **terms: `label_smoothing`, `class_weight` and `z_loss`, see `LossTerms`.

    Returns:
        The loss; with `return_stats` or `return_lse` a tuple of the loss, the `LossStats` and the log-sum-exps, as
        requested.

    Raises:
        ConfigError: as `linear_token_nll`, and a weighting, reduction or term that cannot be used.
    """
    check_weighting(weighting)
    shape = HeadShape(bias, softcap, scale, valid_vocab_size, low_rank)
    call = LinearCall.of(
        hidden,
        weight,
        targets,
        shape,
        ignore_index=ignore_index,
        impl=impl,
        entropy=weighting.entropy,
        terms=LossTerms(**terms),
    )
    weighting.check_not_recomputed()
    if num_items is not None:
        check_count(num_items)
    if expected_gradient is not None:
        _check_expected(expected_gradient, reduction)
    elif reduction == "mean":
        _, items = call.terms.denominator(call.targets, None, reduction, num_items)
        expected_gradient = share_of(len(call.targets) if items is None else items, call.hidden)
    rows = call.engine.weighted(
        call.hidden, call.head, call.targets, weighting, terms=call.terms, expected=expected_gradient
    )
    weighting.move_on(rows.nll)
    kept_mask = rows.weights != 0
    counted = kept_mask if reduction == "mean_kept" else None
    reduction, num_items = call.terms.denominator(call.targets, counted, reduction, num_items)
    loss = reduce_nll(
        call.spread(rows.losses),
        call.spread(kept_mask),
        valid=call.valid.view(call.shape),
        reduction=reduction,
        num_items=num_items,
    )
    return _result(loss, _stats(rows) if return_stats else None, call.spread(rows.lse) if return_lse else None)


def explain_engine(hidden: Tensor) -> str:
    """Which engine `impl="auto"` takes for such hidden states, and why, in one sentence."""
    return select_engine("auto", hidden)[1]


def _result(loss: Tensor, *more: Any) -> Any:
    """The loss, or a tuple of it and what of `more` is not None."""
    requested = [value for value in more if value is not None]
    return (loss, *requested) if requested else loss


def _stats(rows: TokenLosses) -> LossStats:
    return LossStats(
        (rows.weights != 0).float().mean(),
        rows.nll.mean(),
        torch.exp(-rows.nll).mean(),
        rows.correct.float().mean(),
        count_on(rows.nll.device, len(rows.nll)),
    )


def _check_expected(gradient: Tensor, reduction: Reduction) -> None:
    if reduction not in ("none", "sum"):
        raise ConfigError(f"expected_gradient has no effect with reduction {reduction!r}. Leave it out.")
    if not isinstance(gradient, Tensor) or gradient.ndim != 0:
        raise ConfigError(f"expected_gradient {gradient!r} is no scalar tensor. Give 1 / targets, for one.")


def share_of(num_items: float | Tensor, hidden: Tensor) -> Tensor:
    """The gradient of a mean over `num_items` at each loss, to the bit that division would give."""
    one = torch.ones((), dtype=accumulation_dtype(hidden.dtype), device=hidden.device)
    return one / clamp_count(count_on(hidden.device, num_items))
