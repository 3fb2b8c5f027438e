"""The embedded world: short biographies whose probabilities are all known, so that ground truth needs no download.

Rule: a document is sampled as person, length, attributes in order, and a phrasing each; nothing else varies. Coverage
is relative to the expected coverage of equally many true documents, so it is 1 for the world itself at any size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tailkeep.data.kr_questions import Question
from tailkeep.data.world.population import (
    AttributeChoice,
    Fact,
    Population,
    WorldConfig,
    build_population,
    draw_indices,
)
from tailkeep.data.world.questions import ParsedText, TextParser, make_questions


def truth_metrics(population: Population, texts: Sequence[ParsedText]) -> dict[str, float]:
    """Five metrics of n parsed documents. NaN where the denominator is 0.

    - `valid_share`: documents inside the grammar, true or not, over n.
    - `true_share`: true statements over all statements. A statement with an unknown person or value is not true.
    - `common_fact_coverage`, `rare_fact_coverage`: facts are ranked by probability and split in half, the middle one
      being common. Facts of that half stated at least once, over sum 1 - (1 - p)^n, where p is the probability that
      one document states the fact.
    - `rare_phrasing_coverage`: the same over pairs of a person and a phrasing of the rarer half of each attribute's
      phrasings, whether the stated value is true or not. Any sample would cover all single phrasings.
    """
    n = len(texts)
    statements = [statement for parsed in texts for statement in parsed.statements]
    tables = population.config
    people, attributes, phrasings = tables.people, tables.attributes, tables.phrasings
    stated = _stated_facts(population, texts)
    phrased = np.zeros((people, attributes, phrasings), dtype=bool)
    for statement in statements:
        if statement.person is not None:
            phrased[statement.person, statement.attribute, statement.phrasing] = True

    fact_chance = np.repeat(population.people_share * population.attribute_share, attributes)
    phrasing_chance = np.broadcast_to(
        (population.people_share * population.attribute_share)[:, None, None] * population.phrasing_share,
        phrased.shape,
    )
    middle = (people * attributes + 1) // 2
    rare = (phrasings + 1) // 2
    true = sum(statement.truth == "true" for statement in statements)
    return {
        "valid_share": _ratio(sum(parsed.well_formed for parsed in texts), n),
        "true_share": _ratio(true, len(statements)),
        "common_fact_coverage": _coverage(stated.ravel()[:middle], fact_chance[:middle], n),
        "rare_fact_coverage": _coverage(stated.ravel()[middle:], fact_chance[middle:], n),
        "rare_phrasing_coverage": _coverage(phrased[..., rare:], phrasing_chance[..., rare:], n),
    }


def _stated_facts(population: Population, texts: Sequence[ParsedText]) -> NDArray[np.bool_]:
    """(people, attributes): which true facts are stated at least once."""
    stated = np.zeros((population.config.people, population.config.attributes), dtype=bool)
    for statement in (statement for parsed in texts for statement in parsed.statements):
        if statement.person is not None:
            stated[statement.person, statement.attribute] |= statement.truth == "true"
    return stated


def _coverage(covered: NDArray[np.bool_], chance: NDArray[np.float64], n: int) -> float:
    return _ratio(float(covered.sum()), float(np.sum(1 - (1 - chance) ** n)))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")


_CORPUS, _HELD_OUT, _QUESTIONS = 1, 2, 3
"""Random streams; stream 0 generates the world itself."""


@dataclass(frozen=True)
class World:
    """Biographies of invented people.

    A document states `min_sentences` to `max_sentences` different attributes of one person, one per sentence:
    P(document) = P(person) * 1/lengths * (attributes - length)!/attributes! * product of P(phrasing).
    Lengths and orders of attributes are uniform; people and phrasings follow Zipf's law. Each person has one true value
    of each attribute, sampled by Zipf's law when the world is generated.
    """

    config: WorldConfig = field(default_factory=WorldConfig)

    @cached_property
    def population(self) -> Population:
        """Names, values, truth and frequencies."""
        return build_population(self.config)

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Every fact with the probability that a document states it, from frequent to rare."""
        return self.population.facts

    def sample(self, n: int, rng: np.random.Generator) -> list[str]:
        """`n` independent documents."""
        tables = self.population
        people = draw_indices(tables.people_share, n, rng).tolist()
        lengths = rng.integers(self.config.min_sentences, self.config.max_sentences + 1, size=n).tolist()
        return [self._document(person, length, rng) for person, length in zip(people, lengths, strict=True)]

    def corpus(self) -> list[str]:
        """The training documents: `documents` of them, always the same."""
        return self.sample(self.config.documents, self._rng(_CORPUS))

    def held_out(self) -> list[str]:
        """The held-out documents: `held_out` more, independent of the corpus."""
        return self.sample(self.config.held_out, self._rng(_HELD_OUT))

    def questions(self, *, rounds: int = 1) -> list[Question]:
        """The knowledge-retention test: `rounds` questions about each fact, always the same; see `make_questions`.

        Raises:
            ValueError: `rounds` is below 1.
        """
        if rounds < 1:
            raise ValueError(f"rounds must be >= 1, got {rounds}.")
        return list(make_questions(self.population, rounds=rounds, rng=self._rng(_QUESTIONS)))

    def log_probability(self, document: str) -> float:
        """The natural logarithm of the probability that `sample(1)` gives exactly this text; -inf if it never does."""
        parsed = self.parse(document)
        if not parsed.well_formed or document != document.strip():
            return -math.inf
        if any(statement.truth != "true" for statement in parsed.statements):
            return -math.inf
        person = parsed.statements[0].person
        length = len(parsed.statements)
        phrasings = [statement.phrasing for statement in parsed.statements]
        tables = self.population
        return (
            math.log(tables.people_share[person])
            - math.log(len(tables.lengths))
            - math.log(math.perm(self.config.attributes, length))
            + float(np.log(tables.phrasing_share[phrasings]).sum())
        )

    @cached_property
    def entropy(self) -> float:
        """Mean of -log_probability over documents, in nats/document: no model has a lower expected NLL."""
        tables = self.population
        orders = np.mean([math.log(math.perm(self.config.attributes, length)) for length in tables.lengths])
        phrasing = float(np.mean(tables.lengths)) * _entropy(tables.phrasing_share)
        return _entropy(tables.people_share) + math.log(len(tables.lengths)) + float(orders) + phrasing

    def parse(self, document: str) -> ParsedText:
        """The statements of `document`, true or not, and whether it is a document of the grammar. Accepts any text."""
        return self._parser.parse(document)

    def truth_metrics(self, documents: Sequence[str]) -> dict[str, float]:
        """Validity, truth and coverage of `documents`; see the function `truth_metrics`."""
        return truth_metrics(self.population, [self.parse(document) for document in documents])

    def coverage_outside(self, documents: Sequence[str], seen: Sequence[str]) -> dict[str, float]:
        """`rare_fact_coverage` of `documents`, of the rare facts alone that no document of `seen` states.

        `rare_facts_outside` is their number; without any the coverage is NaN.
        """
        tables = self.population
        stated, excluded = (
            _stated_facts(tables, [self.parse(text) for text in texts]).ravel() for texts in (documents, seen)
        )
        chance = np.repeat(tables.people_share * tables.attribute_share, self.config.attributes)
        outside = ~excluded
        outside[: (len(chance) + 1) // 2] = False
        coverage = _coverage(stated[outside], chance[outside], len(documents))
        return {"rare_fact_coverage_outside": coverage, "rare_facts_outside": float(outside.sum())}

    def count_people(self, documents: Sequence[str]) -> NDArray[np.int64]:
        """(people,): how many of `documents` hold the full name of each person, the most frequent person first."""
        names = [" ".join(name) for name in self.population.names]
        return np.array([sum(name in document for document in documents) for name in names], dtype=np.int64)

    @cached_property
    def _parser(self) -> TextParser:
        return TextParser(self.population)

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, stream])

    def _document(self, person: int, length: int, rng: np.random.Generator) -> str:
        tables = self.population
        attributes = rng.permutation(self.config.attributes)[:length].tolist()
        phrasings = draw_indices(tables.phrasing_share, length, rng).tolist()
        choices = [
            AttributeChoice(attribute, phrasing, int(tables.truth[person, attribute]))
            for attribute, phrasing in zip(attributes, phrasings, strict=True)
        ]
        return tables.document(person, choices)


def _entropy(share: NDArray[np.float64]) -> float:
    return float(-(share * np.log(share)).sum())
