"""Ways to compute per-token losses from hidden states. One rule: an engine changes time and memory, never a number."""

from tailkeep.losses.engines.choice import IMPLEMENTATIONS, Implementation, choose
from tailkeep.losses.engines.chunked import most_likely
from tailkeep.losses.engines.protocol import Engine, Rows

__all__ = ["IMPLEMENTATIONS", "Engine", "Implementation", "Rows", "choose", "most_likely"]
