"""Losses: per-token negative log-likelihood, re-weighted. Truncation keeps a token when its probability is small.

On logits: `truncated_cross_entropy`. On hidden states, never holding all logits: `linear_truncated_cross_entropy`. In a
Hugging Face model: `attach`. A name is imported when it is first used, so `options` can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailkeep.losses.adaptive import dynamic_truncation, scheduled_truncation, target_kept_fraction
    from tailkeep.losses.cross_entropy import TruncatedCrossEntropyLoss, weighted_cross_entropy
    from tailkeep.losses.hf.attach import (
        attach,
        detach,
        is_attached,
        load_loss_state,
        read_stats,
        save_loss_state,
        weighting_of,
        without_attached_loss,
    )
    from tailkeep.losses.linear import (
        explain_engine,
        linear_token_nll,
        linear_truncated_cross_entropy,
        linear_weighted_cross_entropy,
    )
    from tailkeep.losses.lm_head import LowRankProduct
    from tailkeep.losses.nll import LossStats, Reduction, reduce_nll, token_nll
    from tailkeep.losses.options import LOSSES, named_weighting
    from tailkeep.losses.sequences import (
        drop_fitted_sequences,
        initial_sequence_nll,
        kept_sequences,
        sequence_nll,
        tail_sft,
    )
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
    "LOSSES",
    "Entropy",
    "LossStats",
    "LowRankProduct",
    "Reduction",
    "TruncatedCrossEntropyLoss",
    "Weighting",
    "attach",
    "detach",
    "dft",
    "drop_fitted_sequences",
    "dynamic_truncation",
    "eaft",
    "explain_engine",
    "focal",
    "focal_cross_entropy",
    "focal_weights",
    "initial_sequence_nll",
    "is_attached",
    "kept_sequences",
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
    "sequence_nll",
    "stm",
    "tail_sft",
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

_MODULES = {
    "adaptive": "dynamic_truncation scheduled_truncation target_kept_fraction",
    "cross_entropy": "TruncatedCrossEntropyLoss weighted_cross_entropy",
    "hf.attach": "attach detach is_attached load_loss_state read_stats save_loss_state weighting_of "
    "without_attached_loss",
    "linear": "explain_engine linear_token_nll linear_truncated_cross_entropy linear_weighted_cross_entropy",
    "lm_head": "LowRankProduct",
    "nll": "LossStats Reduction reduce_nll token_nll",
    "options": "LOSSES named_weighting",
    "sequences": "drop_fitted_sequences initial_sequence_nll kept_sequences sequence_nll tail_sft",
    "truncation": "truncated truncated_cross_entropy truncation_mask",
    "vocab_parallel": "vocab_parallel_token_nll",
    "weighting": "CROSS_ENTROPY Entropy Weighting",
    "weightings": "dft eaft focal focal_cross_entropy focal_weights mile random_matched random_truncation stm",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """The public `name`, imported from its module at its first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
