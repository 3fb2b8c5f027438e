"""Losses from hidden states and the output layer's weight: the logits of all tokens are never in memory at once.

z = scale * (hidden @ weight.T + bias), then softcap * tanh(z / softcap)      nll = logsumexp(z) - z[target]
"""

from typing import Any, Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor

from tailkeep.losses.checks import check_tensors
from tailkeep.losses.eager import LinearInputs, LossRequest, check_expected, eager_cross_entropy, eager_token_nll
from tailkeep.losses.engines import select_engine
from tailkeep.losses.lm_head import LowRankProduct
from tailkeep.losses.nll import LossStats, Reduction, check_reduction
from tailkeep.losses.terms import LossTerms, TermOptions
from tailkeep.losses.traced import traced_cross_entropy, traced_token_nll
from tailkeep.losses.truncation import truncated
from tailkeep.losses.weighting import Entropy, Weighting, check_weighting


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
    inputs = LinearInputs(hidden, weight, targets, bias, softcap, scale, valid_vocab_size, low_rank, ignore_index, impl)
    compute: Any = eager_token_nll
    if torch.compiler.is_compiling():
        from tailkeep.losses.untraced import untraced_token_nll

        compute = untraced_token_nll if impl == "reference" else traced_token_nll
    losses: Tensor | tuple[Tensor, ...] = compute(inputs, entropy=return_entropy, return_lse=return_lse)
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
    check_reduction(reduction, num_items)
    if expected_gradient is not None:
        check_expected(expected_gradient, reduction)
    compute: Any = eager_cross_entropy
    if torch.compiler.is_compiling():
        from tailkeep.losses.untraced import untraced_cross_entropy

        traceable = impl != "reference" and weighting.state is None and weighting.observe is None
        compute = traced_cross_entropy if traceable else untraced_cross_entropy
    inputs = LinearInputs(hidden, weight, targets, bias, softcap, scale, valid_vocab_size, low_rank, ignore_index, impl)
    request = LossRequest(
        weighting, LossTerms(**terms), reduction, num_items, expected_gradient, return_stats, return_lse
    )
    return compute(inputs, request)


def explain_engine(hidden: Tensor) -> str:
    """Which engine `impl="auto"` takes for such hidden states, and why, in one sentence.

    Raises:
        ConfigError: no tensor.
    """
    check_tensors(hidden=hidden)
    return select_engine("auto", hidden)[1]
