"""The embedded world: short biographies whose every probability is known, so that truth needs no download.

Rule: a document is drawn in five steps, person, length, attributes in order, and a phrasing each; nothing else varies.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tailkeep.data.questions import Question
from tailkeep.data.world.asking import ask
from tailkeep.data.world.config import WorldConfig
from tailkeep.data.world.population import Choice, Fact, Population, draw, populate
from tailkeep.data.world.reading import Reader, Reading
from tailkeep.data.world.truth import truth_metrics

_CORPUS, _HELD_OUT, _QUESTIONS = 1, 2, 3
"""Streams of randomness beside 0, from which the world itself is made."""


@dataclass(frozen=True)
class World:
    """Biographies of invented people.

    A document states `shortest` to `longest` different attributes of one person, one a sentence:
    P(document) = P(person) * 1/lengths * (attributes - length)!/attributes! * product of P(phrasing).
    Lengths and orders of attributes are uniform, people and phrasings follow Zipf's law, and so did the values when
    the world was made; in the world as it is, each person has one true value of each attribute.
    """

    config: WorldConfig = field(default_factory=WorldConfig)

    @cached_property
    def population(self) -> Population:
        """Names, values, truth and frequencies."""
        return populate(self.config)

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Every fact with the chance that a document states it, from frequent to rare."""
        return self.population.facts

    def sample(self, n: int, rng: np.random.Generator) -> list[str]:
        """`n` independent documents."""
        tables = self.population
        people = draw(tables.people_share, n, rng).tolist()
        lengths = rng.integers(self.config.shortest, self.config.longest + 1, size=n).tolist()
        return [self._document(person, length, rng) for person, length in zip(people, lengths, strict=True)]

    def corpus(self) -> list[str]:
        """The training documents: `documents` of them, always the same."""
        return self.sample(self.config.documents, self._rng(_CORPUS))

    def held_out(self) -> list[str]:
        """The held-out documents: `held_out` more, drawn independently of the corpus."""
        return self.sample(self.config.held_out, self._rng(_HELD_OUT))

    def questions(self, *, rounds: int = 1) -> list[Question]:
        """The knowledge-retention test: `rounds` questions about each fact, always the same; see `asking`.

        Raises:
            ValueError: `rounds` is below 1.
        """
        if rounds < 1:
            raise ValueError(f"{rounds} rounds of questions. Ask at least 1.")
        return list(ask(self.population, rounds=rounds, rng=self._rng(_QUESTIONS)))

    def log_probability(self, document: str) -> float:
        """The natural logarithm of the chance that `sample(1)` gives exactly this text; -inf if it never does."""
        reading = self.read(document)
        if not reading.well_formed or document != document.strip():
            return -math.inf
        if any(statement.truth != "true" for statement in reading.statements):
            return -math.inf
        person = reading.statements[0].person
        length = len(reading.statements)
        phrasings = [statement.phrasing for statement in reading.statements]
        tables = self.population
        return (
            math.log(tables.people_share[person])
            - math.log(len(tables.lengths))
            - math.log(math.perm(self.config.attributes, length))
            + float(np.log(tables.phrasing_share[phrasings]).sum())
        )

    @cached_property
    def entropy(self) -> float:
        """Mean of -log_probability over documents, in nats a document: no model has a lower expected NLL."""
        tables = self.population
        orders = np.mean([math.log(math.perm(self.config.attributes, length)) for length in tables.lengths])
        phrasing = float(np.mean(tables.lengths)) * _entropy(tables.phrasing_share)
        return _entropy(tables.people_share) + math.log(len(tables.lengths)) + float(orders) + phrasing

    def read(self, document: str) -> Reading:
        """What `document` states, true or not, and whether it is a document of the grammar. Takes any text."""
        return self._reader.read(document)

    def truth_metrics(self, documents: Sequence[str]) -> dict[str, float]:
        """How valid, how true and how complete `documents` are; the five numbers are defined in `truth`."""
        return truth_metrics(self.population, [self.read(document) for document in documents])

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.population)

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, stream])

    def _document(self, person: int, length: int, rng: np.random.Generator) -> str:
        tables = self.population
        attributes = rng.permutation(self.config.attributes)[:length].tolist()
        phrasings = draw(tables.phrasing_share, length, rng).tolist()
        choices = [
            Choice(attribute, phrasing, int(tables.truth[person, attribute]))
            for attribute, phrasing in zip(attributes, phrasings, strict=True)
        ]
        return tables.document(person, choices)


def _entropy(share: NDArray[np.float64]) -> float:
    return float(-(share * np.log(share)).sum())
