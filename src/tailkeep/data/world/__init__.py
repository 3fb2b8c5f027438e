"""Worlds with known truth: what a document says, how likely it is and what a sample forgets are exact."""

from tailkeep.data.world.population import Fact, WorldConfig
from tailkeep.data.world.questions import Reading, Statement
from tailkeep.data.world.world import World

__all__ = ["Fact", "Reading", "Statement", "World", "WorldConfig"]
