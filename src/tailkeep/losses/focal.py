"""Focal loss (Lin et al., arXiv 1708.02002) on tokens: sure tokens carry less loss, none carries nothing.

FL(p) = (1 - p)^exponent * -ln p
"""

import math
from functools import partial

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.token import Reduction, reduce_nll, token_nll
from tailkeep.losses.weighting import Weighting


def focal_weights(nll: Tensor, *, exponent: float = 2.0, detach: bool = False) -> Tensor:
    """(1 - p)^exponent for each token.

    Args:
        nll: (...) per-token negative log-likelihood in nats, float32.
        exponent: at least 0; 0 is plain cross-entropy.
        detach: whether the factor is a constant to the gradient. It is not in the published losses.

    Raises:
        ConfigError: an exponent that is negative or not finite.
    """
    _check(exponent)
    # 1 - exp(-nll) without cancellation; the floor keeps the power's gradient finite at p = 1.
    doubt = (-torch.expm1(-nll)).clamp_min(torch.finfo(nll.dtype).tiny)
    weights = doubt**exponent
    return weights.detach() if detach else weights


def focal(exponent: float = 2.0, detach: bool = False) -> Weighting:
    """(1 - p)^exponent. Direction: spares sure tokens, gradually.

    ForTIFAI trains it with exponent 2 as its rival, its gradient passing through the factor.

    Raises:
        ConfigError: an exponent that is negative or not finite.
    """
    _check(exponent)
    return Weighting("focal", partial(_weigh, exponent=exponent, detach=detach))


def focal_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    exponent: float = 2.0,
    detach: bool = False,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Tensor:
    """Focal loss of the targets; shapes, reductions and errors as in `truncated_cross_entropy`."""
    nll = token_nll(logits, targets, ignore_index=ignore_index)
    weights = focal_weights(nll, exponent=exponent, detach=detach)
    return reduce_nll(nll, weights, valid=targets != ignore_index, reduction=reduction, num_items=num_items)


def _weigh(nll: Tensor, entropy: Tensor | None, *, exponent: float, detach: bool) -> Tensor:
    del entropy
    return focal_weights(nll, exponent=exponent, detach=detach)


def _check(exponent: float) -> None:
    if not 0 <= exponent < math.inf:
        raise ConfigError(f"exponent {exponent} is not in [0, inf). 2 is the published choice, 0 plain cross-entropy.")
