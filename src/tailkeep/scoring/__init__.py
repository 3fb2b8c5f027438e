"""A language model used only to score text."""

from tailkeep.scoring.loading import Prior, local_pool, prior_for_worker, uses_gpu
from tailkeep.scoring.questions import encode_question, encode_without_eos, start_token_of, tempered_nll
from tailkeep.scoring.scorer import CausalLMScorer, ScoredDocument, TokenFlagger, TokenSampler, token_log_probs

__all__ = [
    "CausalLMScorer",
    "Prior",
    "ScoredDocument",
    "TokenFlagger",
    "TokenSampler",
    "encode_question",
    "encode_without_eos",
    "local_pool",
    "prior_for_worker",
    "start_token_of",
    "tempered_nll",
    "token_log_probs",
    "uses_gpu",
]
