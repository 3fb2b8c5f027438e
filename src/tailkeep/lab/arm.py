"""What every arm chooses, whatever it studies."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from tailkeep.config import Settings
from tailkeep.lab.regimes import AnyRegime, EditRegime, Replace, SelectRegime

Positive = Annotated[int, Field(ge=1)]


class ArmConfig(Settings):
    """One arm: the regime, how many models are trained in a row, and which of them get a cell on disk.

    `generations` counts the models; the first sees real data only. `record_every: 10` measures and keeps
    generations 0, 10, 20, ... and the last; those between live in memory. `edits` tells whether its models can have an
    `edit`, and `selects` whether what they write can be selected from, for which the regimes of these names ask.
    """

    edits: ClassVar[bool] = False
    selects: ClassVar[bool] = False
    regime: AnyRegime = Replace(name="replace")
    generations: Positive = 5
    record_every: Positive = 1

    @field_validator("regime")
    @classmethod
    def _can(cls, regime: AnyRegime) -> AnyRegime:
        if isinstance(regime, EditRegime) and not cls.edits:
            raise ValueError(
                "'edit' draws tokens of a text anew, which this learner's models cannot. Use learner causal_lm, or "
                "another regime"
            )
        if isinstance(regime, SelectRegime) and not cls.selects:
            raise ValueError(
                "'select' weighs written texts, and this learner writes none. Use learner causal_lm or ecosystem, or "
                "another regime"
            )
        return regime

    @property
    def recorded(self) -> Sequence[int]:
        """The generations that get a cell, in order."""
        return sorted({*range(0, self.generations, self.record_every), self.generations - 1})
