"""A language model used only to score text."""

from tailkeep.scoring.prior import Prior, local_pool, prior_elsewhere, uses_gpu
from tailkeep.scoring.protocol import Draw, Judge, Scored, Scorer
from tailkeep.scoring.questions import encode_open, question_rows, tempered_nll
from tailkeep.scoring.scorer import CausalLMScorer, token_log_probs

__all__ = [
    "CausalLMScorer",
    "Draw",
    "Judge",
    "Prior",
    "Scored",
    "Scorer",
    "encode_open",
    "local_pool",
    "prior_elsewhere",
    "question_rows",
    "tempered_nll",
    "token_log_probs",
    "uses_gpu",
]
