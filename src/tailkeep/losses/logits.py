"""Weighted cross-entropy of logits that are already there. From hidden states, `linear` never holds them all.

Rule: a weighting sees valid targets only, in their order, as it does in `linear`, so that both give the same loss.
"""

import torch
from torch import Tensor

from tailkeep.losses.engines.reference import entropy_of
from tailkeep.losses.token import Reduction, reduce_nll, token_nll
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
) -> Tensor:
    """Cross-entropy under any `weighting`.

    Args:
        logits: (..., V).
        targets: (...), int64; `ignore_index` marks targets that do not count.
        weighting: asked once for the whole micro-batch; one with a state then moves on.
        reduction: see `reduce_nll`; the mean is over all valid targets, those without weight included.
        num_items: the denominator of the mean for gradient accumulation and several ranks.

    Raises:
        ConfigError: shapes, types or a reduction that cannot be used.
    """
    check_weighting(weighting)
    weighting.check_not_recomputed()
    nll = token_nll(logits, targets, ignore_index=ignore_index)
    valid = targets != ignore_index
    counted = nll[valid]
    factors = weighting.factors(counted, _entropy(logits, valid, weighting))
    weighting.move_on(counted)
    weights = torch.zeros_like(nll).masked_scatter(valid, factors.to(nll.dtype))
    return reduce_nll(nll, weights, valid=valid, reduction=reduction, num_items=num_items)


def _entropy(logits: Tensor, valid: Tensor, weighting: Weighting) -> Tensor | None:
    if weighting.entropy is None:
        return None
    # In pieces, since each needs copies of its logits in float32.
    pieces = (entropy_of(rows.float(), weighting.entropy) for rows in torch.split(logits.detach()[valid], _ROWS))
    return torch.cat([piece for piece in pieces if piece is not None])
