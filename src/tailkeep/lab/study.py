"""What every arm chooses, whatever it studies."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from tailkeep.config import Settings
from tailkeep.lab.regimes import AnyRegime, Replace

Positive = Annotated[int, Field(ge=1)]


class Study(Settings):
    """One arm: the regime, how many models are trained in a row, and which of them get a cell on disk.

    `generations` counts the models; the first sees real data only. `record_every: 10` measures and keeps
    generations 0, 10, 20, ... and the last; those between live in memory.
    """

    regime: AnyRegime = Replace(name="replace")
    generations: Positive = 5
    record_every: Positive = 1

    @property
    def recorded(self) -> Sequence[int]:
        """The generations that get a cell, in order."""
        return sorted({*range(0, self.generations, self.record_every), self.generations - 1})
