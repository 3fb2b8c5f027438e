"""A language model used only to score text."""

from tailkeep.scoring.log_probs import token_log_probs

__all__ = ["token_log_probs"]
