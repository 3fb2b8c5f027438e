"""Losses: per-token negative log-likelihood, re-weighted. Truncation keeps a token when its probability is small.

On logits: `truncated_cross_entropy`. On hidden states, never holding all logits: `linear_truncated_cross_entropy`. In a
Hugging Face model: `attach`.
"""

from tailkeep.losses.adaptive import dynamic_truncation, scheduled_truncation, target_kept_fraction
from tailkeep.losses.cross_entropy import TruncatedCrossEntropyLoss, weighted_cross_entropy
from tailkeep.losses.hf.attach import attach, detach, is_attached, read_stats, weighting_of, without_attached_loss
from tailkeep.losses.hf.checkpoint import load_loss_state, save_loss_state
from tailkeep.losses.linear import (
    LossStats,
    explain_engine,
    linear_token_nll,
    linear_truncated_cross_entropy,
    linear_weighted_cross_entropy,
)
from tailkeep.losses.nll import Reduction, reduce_nll, token_nll
from tailkeep.losses.registry import WEIGHTINGS, named_weighting
from tailkeep.losses.truncation import truncated, truncated_cross_entropy, truncation_mask
from tailkeep.losses.vocab_parallel import vocab_parallel_token_nll
from tailkeep.losses.weighting import CROSS_ENTROPY, Entropy, Weighting
from tailkeep.losses.weightings import (
    dft,
    eaft,
    focal,
    focal_cross_entropy,
    focal_weights,
    mile,
    random_matched,
    random_truncation,
    stm,
)

__all__ = [
    "CROSS_ENTROPY",
    "WEIGHTINGS",
    "Entropy",
    "LossStats",
    "Reduction",
    "TruncatedCrossEntropyLoss",
    "Weighting",
    "attach",
    "detach",
    "dft",
    "dynamic_truncation",
    "eaft",
    "explain_engine",
    "focal",
    "focal_cross_entropy",
    "focal_weights",
    "is_attached",
    "linear_token_nll",
    "linear_truncated_cross_entropy",
    "linear_weighted_cross_entropy",
    "load_loss_state",
    "mile",
    "named_weighting",
    "random_matched",
    "random_truncation",
    "read_stats",
    "reduce_nll",
    "save_loss_state",
    "scheduled_truncation",
    "stm",
    "target_kept_fraction",
    "token_nll",
    "truncated",
    "truncated_cross_entropy",
    "truncation_mask",
    "vocab_parallel_token_nll",
    "weighted_cross_entropy",
    "weighting_of",
    "without_attached_loss",
]
