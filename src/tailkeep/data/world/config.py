"""How large an embedded world is and how steep its tails are.

Rule: two equal configurations are the same world, name by name.
"""

from typing import Self

from pydantic import Field, model_validator

from tailkeep.config import Settings
from tailkeep.data.world.grammar import ATTRIBUTES

MOST_ATTRIBUTES = len(ATTRIBUTES)
MOST_PHRASINGS = min(len(attribute.phrasings) for attribute in ATTRIBUTES)


class WorldConfig(Settings):
    """Sizes, Zipf exponents (0 is uniform) and the seed of a world, and of the corpus drawn from it.

    `values` counts the possible values of each attribute, `phrasings` the ways to state each; a document has
    `shortest` to `longest` sentences.
    """

    seed: int = Field(0, ge=0)
    people: int = Field(60, ge=1, le=1000)
    attributes: int = Field(4, ge=1, le=MOST_ATTRIBUTES)
    values: int = Field(20, ge=2, le=500)
    phrasings: int = Field(4, ge=1, le=MOST_PHRASINGS)
    people_exponent: float = Field(1.0, ge=0, le=8)
    values_exponent: float = Field(1.0, ge=0, le=8)
    phrasings_exponent: float = Field(1.0, ge=0, le=8)
    shortest: int = Field(2, ge=1)
    longest: int = Field(4, ge=1)
    documents: int = Field(1000, ge=1)
    held_out: int = Field(200, ge=1)

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if not self.shortest <= self.longest <= self.attributes:
            raise ValueError(
                f"a document of {self.shortest} to {self.longest} sentences about {self.attributes} attributes, "
                "each stated once. Set shortest <= longest <= attributes."
            )
        return self
