"""Losses: per-token negative log-likelihood, re-weighted. Truncation keeps a token when its probability is small."""

from tailkeep.losses.focal import focal_cross_entropy, focal_weights
from tailkeep.losses.token import Reduction, reduce_nll, token_nll
from tailkeep.losses.truncation import truncated_cross_entropy, truncation_mask

__all__ = [
    "Reduction",
    "focal_cross_entropy",
    "focal_weights",
    "reduce_nll",
    "token_nll",
    "truncated_cross_entropy",
    "truncation_mask",
]
