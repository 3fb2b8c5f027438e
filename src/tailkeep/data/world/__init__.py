"""Worlds with known truth: the statements, the probability and the coverage of documents are exact."""

from tailkeep.data.world.population import Fact, WorldConfig
from tailkeep.data.world.questions import ParsedText, Statement
from tailkeep.data.world.world import World

__all__ = ["Fact", "ParsedText", "Statement", "World", "WorldConfig"]
