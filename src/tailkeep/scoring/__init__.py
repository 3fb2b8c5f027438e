"""A language model used only to score text."""

from tailkeep.scoring.causal_lm import CausalLMScorer
from tailkeep.scoring.log_probs import token_log_probs
from tailkeep.scoring.prior import Prior
from tailkeep.scoring.protocol import Draw, Judge, Scored, Scorer

__all__ = ["CausalLMScorer", "Draw", "Judge", "Prior", "Scored", "Scorer", "token_log_probs"]
