"""Worlds with known truth: what a document says, how likely it is and what a sample forgets are exact."""

from tailkeep.data.world.population import Fact, WorldConfig
from tailkeep.data.world.questions import ParsedText, Statement
from tailkeep.data.world.world import World

__all__ = ["Fact", "ParsedText", "Statement", "World", "WorldConfig"]
