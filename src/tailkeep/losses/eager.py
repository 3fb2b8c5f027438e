"""The losses from hidden states as they run: the inputs are checked, an engine computes, a reduction follows.

Rule: torch.compile never enters these: it traces `traced`, or breaks its graph for `untraced`.
"""

from typing import Any

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.engines.logit_ops import accumulation_dtype
from tailkeep.losses.linear_call import LinearCall, LinearInputs, LossRequest
from tailkeep.losses.loss_stats import LossStats, with_requested
from tailkeep.losses.nll import Reduction, clamp_count, count_on, reduce_nll
from tailkeep.losses.weighting import Entropy


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
