"""Ways to compute per-token losses from hidden states. One rule: an engine changes time and memory, never a number."""

from tailkeep.losses.engines.base import Engine, Rows
from tailkeep.losses.engines.chunked import most_likely
from tailkeep.losses.engines.select import IMPLEMENTATIONS, Implementation, choose

__all__ = ["IMPLEMENTATIONS", "Engine", "Implementation", "Rows", "choose", "most_likely"]
