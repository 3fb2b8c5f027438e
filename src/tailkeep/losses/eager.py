"""The losses from hidden states as they run: the inputs are checked, an engine computes, a reduction follows.

Rule: torch.compile never enters these: it traces `traced`, or breaks its graph for `untraced`.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.checks import check_ignore_index, check_no_transform, check_tensors
from tailkeep.losses.engines import Engine, select_engine
from tailkeep.losses.engines.logit_ops import accumulation_dtype
from tailkeep.losses.lm_head import Head, LowRankProduct, autocast, check_inputs, head_of
from tailkeep.losses.nll import LossStats, Reduction, clamp_count, count_on, reduce_nll, with_requested
from tailkeep.losses.terms import NLL_ALONE, LossTerms
from tailkeep.losses.weighting import Entropy, Weighting, check_entropy


@dataclass(frozen=True)
class LinearInputs:
    """What every loss from hidden states is called with; see `linear_token_nll`."""

    hidden: Tensor
    weight: Tensor
    targets: Tensor
    bias: Tensor | None = None
    softcap: float | None = None
    scale: float = 1.0
    valid_vocab_size: int | None = None
    low_rank: LowRankProduct | None = None
    ignore_index: int = -100
    impl: str = "auto"


@dataclass(frozen=True)
class LossRequest:
    """The loss of a call and what is returned beside it; see `linear_weighted_cross_entropy`."""

    weighting: Weighting
    terms: LossTerms
    reduction: Reduction
    num_items: float | Tensor | None
    expected_gradient: Tensor | None
    return_stats: bool
    return_lse: bool


def checked_head(inputs: LinearInputs) -> tuple[Tensor, Head]:
    """What is multiplied, under autocast in its type.

    Raises:
        ConfigError: shapes, types or factors that cannot be used.
    """
    check_tensors(hidden=inputs.hidden, weight=inputs.weight)
    if inputs.bias is not None:
        check_tensors(bias=inputs.bias)
    low_rank = inputs.low_rank
    if low_rank is not None:
        if not isinstance(low_rank, LowRankProduct):
            raise ConfigError(f"low_rank is a {type(low_rank).__name__}. Pass LowRankProduct(hidden, weight), or None.")
        check_tensors(**{"low_rank.hidden": low_rank.hidden, "low_rank.weight": low_rank.weight})
        low_rank = LowRankProduct(*autocast(low_rank.hidden, low_rank.weight))
    hidden, weight, bias = autocast(inputs.hidden, inputs.weight, inputs.bias)
    return hidden, head_of(
        weight,
        bias=bias,
        scale=inputs.scale,
        softcap=inputs.softcap,
        valid_vocab_size=inputs.valid_vocab_size,
        low_rank=low_rank,
    )


@dataclass(frozen=True)
class LinearCall:
    """Checked inputs without the tokens that do not count; `places` are those of the others, None if all count."""

    engine: Engine
    hidden: Tensor
    head: Head
    targets: Tensor
    terms: LossTerms
    shape: torch.Size
    valid: Tensor
    places: Tensor | None

    @classmethod
    def of(cls, inputs: LinearInputs, *, entropy: Entropy, terms: LossTerms = NLL_ALONE) -> "LinearCall":
        """The inputs, checked.

        Raises:
            ConfigError: what does not fit.
        """
        check_no_transform()
        check_tensors(targets=inputs.targets)
        check_ignore_index(inputs.ignore_index)
        hidden, head = checked_head(inputs)
        targets, valid, all_valid = check_inputs(hidden, head, inputs.targets, ignore_index=inputs.ignore_index)
        check_entropy("return_entropy", entropy)
        engine, _ = select_engine(inputs.impl, hidden)
        terms = terms.fit(len(head.weight), hidden.device, accumulation_dtype(hidden.dtype))
        shape = targets.shape
        targets, valid = targets.reshape(-1), valid.reshape(-1)
        places = None if all_valid else valid.nonzero().squeeze(1)
        if head.low_rank is not None:
            head = replace(head, low_rank=replace(head.low_rank, hidden=_at(head.low_rank.hidden, places)))
        targets = targets if places is None else targets[places]
        return cls(engine, _at(hidden, places), head, targets, terms, shape, valid, places)

    def spread(self, values: Tensor) -> Tensor:
        """One value for each counted token, at its place; 0 (or False) elsewhere."""
        if self.places is None:
            return values.view(self.shape)
        empty = torch.zeros(len(self.valid), dtype=values.dtype, device=values.device)
        return empty.index_copy(0, self.places, values).view(self.shape)


def _at(hidden: Tensor, places: Tensor | None) -> Tensor:
    """(..., D) as (N, D), its rows at `places` if there are any."""
    flat = hidden.reshape(-1, hidden.shape[-1])
    return flat if places is None else flat[places]


def eager_token_nll(inputs: LinearInputs, *, entropy: Entropy, return_lse: bool) -> Any:
    """See `linear_token_nll`."""
    call = LinearCall.of(inputs, entropy=entropy)
    nll, lse, spread = call.engine.token_nll(call.hidden, call.head, call.targets, entropy=entropy)
    return with_requested(
        call.spread(nll),
        None if spread is None else call.spread(spread),
        call.spread(lse) if return_lse else None,
    )


def eager_cross_entropy(inputs: LinearInputs, request: LossRequest) -> Any:
    """See `linear_weighted_cross_entropy`."""
    weighting, reduction, num_items = request.weighting, request.reduction, request.num_items
    call = LinearCall.of(inputs, entropy=weighting.entropy, terms=request.terms)
    weighting.check_not_recomputed()
    expected = request.expected_gradient
    if reduction == "mean":
        _, items = call.terms.denominator(call.targets, None, reduction, num_items)
        expected = share_of(len(call.targets) if items is None else items, call.hidden)
    rows = call.engine.weighted(call.hidden, call.head, call.targets, weighting, terms=call.terms, expected=expected)
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
    stats = LossStats.of(rows.nll, kept_mask, rows.correct) if request.return_stats else None
    return with_requested(loss, stats, call.spread(rows.lse) if request.return_lse else None)


def check_expected(gradient: Tensor, reduction: Reduction) -> None:
    """Refuse an expected gradient that has no effect.

    Raises:
        ConfigError: another reduction than `none` or `sum`, or no scalar.
    """
    if reduction not in ("none", "sum"):
        raise ConfigError(f"expected_gradient has no effect with reduction {reduction!r}. Leave it out.")
    if not isinstance(gradient, Tensor) or gradient.ndim != 0:
        raise ConfigError(f"expected_gradient {gradient!r} is no scalar tensor. Give 1 / targets, for one.")


def share_of(num_items: float | Tensor, hidden: Tensor) -> Tensor:
    """The gradient of a mean over `num_items` at each loss, to the bit that division would give."""
    one = torch.ones((), dtype=accumulation_dtype(hidden.dtype), device=hidden.device)
    return one / clamp_count(count_on(hidden.device, num_items))
