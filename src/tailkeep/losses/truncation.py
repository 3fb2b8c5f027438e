"""Truncated cross-entropy (ForTIFAI, arXiv 2509.08972): high-confidence tokens (p > threshold) carry no loss.

    TCE(p) = [p <= threshold] * -ln p        p: the probability of the target, the indicator detached

Rule: the decision falls in log space and in float32, nll >= -ln(threshold), since a softmax in bfloat16 flips
tokens near the threshold.
"""

import math
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from tailkeep.losses.checks import check_number, check_tensors
from tailkeep.losses.nll import Reduction, token_nll, whole
from tailkeep.losses.terms import LossTerms, TermOptions, reduce_logit_losses
from tailkeep.losses.weighting import Weighting


def truncation_mask(nll: Tensor, *, threshold: float) -> Tensor:
    """Which tokens are kept: those whose probability is at most `threshold`.

    Args:
        nll: (...) per-token negative log-likelihood in nats, float32; half precision is compared in float32.
        threshold: a probability in (0, 1]; 1 keeps every token.

    Returns:
        (...) boolean, detached. A token whose loss is NaN is kept, so that a broken model shows.

    Raises:
        ConfigError: `threshold` is not in (0, 1].
    """
    check_threshold(threshold)
    check_tensors(nll=nll)
    if threshold == 1:
        return torch.ones_like(nll, dtype=torch.bool)
    values = nll.detach()
    if values.dtype in (torch.bfloat16, torch.float16):
        values = values.float()
    return ~(values < -math.log(threshold))


def truncated(threshold: float = 0.99) -> Weighting:
    """Truncated cross-entropy as a weighting: 1 for kept tokens, 0 for others. Direction: spares high confidence.

    Raises:
        ConfigError: `threshold` is not in (0, 1].
    """
    check_threshold(threshold)
    return Weighting("truncated", partial(_weigh, threshold=threshold))


def threshold_of(weighting: Weighting) -> float | None:
    """The threshold of a weighting that `truncated` made; None for any other."""
    weigh = weighting.weigh
    if isinstance(weigh, partial) and weigh.func is _weigh:
        threshold: float = weigh.keywords["threshold"]
        return threshold
    return None


def check_threshold(threshold: float) -> None:
    """Refuse what is no probability to truncate at.

    Raises:
        ConfigError: `threshold` is not in (0, 1].
    """
    check_number("threshold", threshold, "(0, 1]", "0.99 is a mild choice, 0.9 a strong one.")


def truncated_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    threshold: float = 0.99,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
    **terms: Unpack[TermOptions],
) -> Tensor:
    """Cross-entropy of the targets whose probability is at most `threshold`.

    Args:
        logits: (..., V).
        targets: (...), int64; `ignore_index` marks targets that do not count.
        threshold: a probability in (0, 1]; 1 is plain cross-entropy.
        reduction: see `reduce_nll`; the mean is over all valid targets, truncated ones included.
        num_items: the denominator of the mean for gradient accumulation and several ranks.
        **terms: `label_smoothing`, `class_weight` and `z_loss` of the kept tokens, see `LossTerms`.

    Raises:
        ConfigError: shapes, types, threshold, reduction or term that cannot be used.
    """
    nll, valid = token_nll(logits, targets, ignore_index=ignore_index), whole(targets) != ignore_index
    kept_mask = truncation_mask(nll, threshold=threshold)
    return reduce_logit_losses(
        logits, targets, nll, kept_mask, valid=valid, terms=LossTerms(**terms), reduction=reduction, num_items=num_items
    )


def _weigh(nll: Tensor, _entropy: Tensor | None, *, threshold: float) -> Tensor:
    return truncation_mask(nll, threshold=threshold).to(nll.dtype)
