"""The config and the tables of a world: people, values and phrasings, the true facts, and their frequencies.

Rule: people, values and phrasings are listed from frequent to rare, and everything follows from the config: two equal
configs are the same world, name by name.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tailkeep.config import Settings
from tailkeep.data.world.grammar import ATTRIBUTES, FAMILY_NAME_ENDINGS, FIRST_NAME_ENDINGS, Attribute, invent_words

MAX_ATTRIBUTES = len(ATTRIBUTES)
MAX_PHRASINGS = min(len(attribute.phrasings) for attribute in ATTRIBUTES)


class WorldConfig(Settings):
    """Sizes, Zipf exponents (0 is uniform) and the seed of a world, and of the corpus sampled from it.

    `values` is the number of possible values of each attribute, `phrasings` the number of ways to state it; a document
    has `min_sentences` to `max_sentences` sentences.

    Attributes:
        seed: of the world and of its corpus.
        people: how many people the world has.
        attributes: how many facts each person has.
        people_exponent: of how often people occur.
        values_exponent: of how often values occur.
        phrasings_exponent: of how often phrasings occur.
        documents: how many documents there are to train on.
        held_out: how many held-out documents there are.
    """

    seed: int = Field(0, ge=0)
    people: int = Field(60, ge=1, le=1000)
    attributes: int = Field(4, ge=1, le=MAX_ATTRIBUTES)
    values: int = Field(20, ge=2, le=500)
    phrasings: int = Field(4, ge=1, le=MAX_PHRASINGS)
    people_exponent: float = Field(1.0, ge=0, le=8)
    values_exponent: float = Field(1.0, ge=0, le=8)
    phrasings_exponent: float = Field(1.0, ge=0, le=8)
    min_sentences: int = Field(2, ge=1)
    max_sentences: int = Field(4, ge=1)
    documents: int = Field(1000, ge=1)
    held_out: int = Field(200, ge=1)

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if not self.min_sentences <= self.max_sentences <= self.attributes:
            raise ValueError(
                f"a document of {self.min_sentences} to {self.max_sentences} sentences about {self.attributes} "
                "attributes, each stated once. Set min_sentences <= max_sentences <= attributes."
            )
        return self


@dataclass(frozen=True)
class AttributeChoice:
    """One sentence of a document, by index: which attribute, in which phrasing, with which value."""

    attribute: int
    phrasing: int
    value: int


@dataclass(frozen=True)
class Fact:
    """A true fact. `probability` is the chance that one document of the world states it."""

    person: str
    attribute: str
    value: str
    probability: float


@dataclass(frozen=True, eq=False)
class Population:
    """The tables of a world.

    `names` (first, family) by person; `values` by attribute; `truth` (people, attributes) holds the index of each
    true value; `people_share` and `phrasing_share` sum to 1.
    """

    config: WorldConfig
    names: tuple[tuple[str, str], ...]
    values: tuple[tuple[str, ...], ...]
    truth: NDArray[np.int64]
    people_share: NDArray[np.float64]
    phrasing_share: NDArray[np.float64]

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The attributes that people of this world have."""
        return ATTRIBUTES[: self.config.attributes]

    @property
    def lengths(self) -> range:
        """The possible numbers of sentences of a document; all are equally likely."""
        return range(self.config.min_sentences, self.config.max_sentences + 1)

    @cached_property
    def attribute_share(self) -> float:
        """The chance that a document states a given attribute of its person: its mean length over the attributes."""
        return float(np.mean(self.lengths)) / self.config.attributes

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        """Every fact, from frequent to rare; the fact of person i and attribute j has index i * attributes + j."""
        return tuple(
            Fact(
                " ".join(self.names[person]),
                self.attributes[attribute].name,
                self.values[attribute][self.truth[person, attribute]],
                float(self.people_share[person]) * self.attribute_share,
            )
            for person, attribute in itertools.product(range(self.config.people), range(self.config.attributes))
        )

    def document(self, person: int, choices: Sequence[AttributeChoice]) -> str:
        """The text that states `choices` of `person`: the full name first, then the first name alone."""
        first, family = self.names[person]
        mentions = itertools.chain([f"{first} {family}"], itertools.repeat(first))
        return " ".join(
            self.attributes[c.attribute].phrasings[c.phrasing].sentence(mention, self.values[c.attribute][c.value])
            for mention, c in zip(mentions, choices, strict=False)
        )


def build_population(config: WorldConfig) -> Population:
    """The tables of the world that `config` describes."""
    rng = np.random.default_rng([config.seed, 0])
    taken: set[str] = set()
    first_names = invent_words(config.people, FIRST_NAME_ENDINGS, taken=taken, rng=rng)
    family_names = invent_words(config.people, FAMILY_NAME_ENDINGS, taken=taken, rng=rng)
    values = [
        invent_words(config.values, attribute.endings, taken=taken, rng=rng)
        for attribute in ATTRIBUTES[: config.attributes]
    ]
    share = zipf_shares(config.values, config.values_exponent)
    return Population(
        config=config,
        names=tuple((g.capitalize(), f.capitalize()) for g, f in zip(first_names, family_names, strict=True)),
        values=tuple(
            tuple(word.capitalize() if attribute.capital else word for word in words)
            for attribute, words in zip(ATTRIBUTES, values, strict=False)
        ),
        truth=draw_indices(share, config.people * config.attributes, rng).reshape(config.people, config.attributes),
        people_share=zipf_shares(config.people, config.people_exponent),
        phrasing_share=zipf_shares(config.phrasings, config.phrasings_exponent),
    )


def zipf_shares(n: int, exponent: float) -> NDArray[np.float64]:
    """Shares proportional to rank^-exponent for ranks 1 to n; they sum to 1."""
    weights = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def draw_indices(share: NDArray[np.float64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`size` independent indices with the probabilities `share`."""
    indices = np.searchsorted(np.cumsum(share), rng.random(size), side="right")
    # A sum slightly below 1 must not lead past the last index.
    return np.minimum(indices, len(share) - 1).astype(np.int64)
