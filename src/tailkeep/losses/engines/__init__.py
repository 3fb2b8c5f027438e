"""Ways to compute per-token losses from hidden states. One rule: an engine changes time and memory, never a number."""

from tailkeep.losses.engines.reference import Engine, TokenLosses
from tailkeep.losses.engines.select import IMPLEMENTATIONS, Implementation, select_engine

__all__ = ["IMPLEMENTATIONS", "Engine", "Implementation", "TokenLosses", "select_engine"]
