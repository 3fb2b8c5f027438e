"""A language model used only to score text."""

from tailkeep.scoring.causal_lm import CausalLMScorer
from tailkeep.scoring.log_probs import token_log_probs
from tailkeep.scoring.prior import Prior
from tailkeep.scoring.protocol import Draw, Judge, Scored, Scorer
from tailkeep.scoring.questions import encode_open, question_rows
from tailkeep.scoring.tempered import tempered_nll
from tailkeep.scoring.workers import local_pool, prior_elsewhere, uses_gpu

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
