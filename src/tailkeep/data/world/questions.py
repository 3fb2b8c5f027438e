"""The knowledge-retention test of a world, and the parser of texts about it.

Rule: questions come in pairs of two people with swapped values, so a model that looks only at the values (how popular,
long or likely they are) answers exactly one of the two. The parser accepts any text; only a whole sentence of the
grammar is a statement, and a document is well formed if its statements, generated again, give the same text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tailkeep.data.kr_questions import Question
from tailkeep.data.world.population import AttributeChoice, Population, draw_indices

_SENTENCE_BREAK = re.compile(r"(?<=\.)\s+")


def make_questions(population: Population, *, rounds: int, rng: np.random.Generator) -> Iterator[Question]:
    """`rounds` questions about each fact that finds a partner.

    In each round the people are paired at random within each attribute, such that their values differ, and each pair
    shares one phrasing, sampled with its true probability. `location` is the index of the fact.
    """
    attributes = population.config.attributes
    for _ in range(rounds):
        for attribute in range(attributes):
            pairs = pair_different(population.truth[:, attribute], rng)
            phrasings = draw_indices(population.phrasing_share, len(pairs), rng)
            for (one, other), phrasing in zip(pairs.tolist(), phrasings.tolist(), strict=True):
                yield _question(population, one, other, attribute, phrasing)
                yield _question(population, other, one, attribute, phrasing)


def pair_different(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The most disjoint pairs of positions with different `labels` (n,); shape (pairs, 2).

    Positions are sorted by label, the most frequent first, and position i of the first half is paired with position i
    of the second: equal labels meet only if one label has more than half, and then no pairing is larger.
    """
    shuffled = rng.permutation(len(labels))
    kinds, counts = np.unique(labels, return_counts=True)
    order = {int(kind): rank for rank, kind in enumerate(kinds[rng.permutation(len(kinds))])}
    if len(kinds):
        order[int(kinds[counts.argmax()])] = -1
    positions = sorted(shuffled.tolist(), key=lambda position: order[int(labels[position])])
    positions = positions[len(positions) % 2 :]
    half = len(positions) // 2
    pairs = zip(positions[:half], positions[half:], strict=True)
    different = [(one, other) for one, other in pairs if labels[one] != labels[other]]
    return np.array(different, dtype=np.int64).reshape(-1, 2)


def _question(population: Population, person: int, other: int, attribute: int, phrasing: int) -> Question:
    words = population.values[attribute]
    form = population.attributes[attribute].phrasings[phrasing]
    name = " ".join(population.names[person])
    context, true = form.split(name, words[population.truth[person, attribute]])
    _, false = form.split(name, words[population.truth[other, attribute]])
    return Question(context, true, false, location=person * population.config.attributes + attribute)


@dataclass(frozen=True)
class Statement:
    """A sentence of the grammar, by index. `person` and `value` are None if the word names none of this world.

    `truth` is `unknown` if the person or the value is None, else `true` or `false`.
    """

    person: int | None
    attribute: int
    phrasing: int
    value: int | None
    truth: Literal["true", "false", "unknown"]


@dataclass(frozen=True)
class ParsedText:
    """The statements of a document. `well_formed`: the whole text is a document of the grammar, true or false."""

    statements: tuple[Statement, ...]
    well_formed: bool


@dataclass(frozen=True, eq=False)
class TextParser:
    """Parses texts about one population."""

    population: Population

    def parse(self, document: str) -> ParsedText:
        """The statements in `document`, in order; white space around it is ignored. Never raises."""
        text = document.strip()
        sentences = _SENTENCE_BREAK.split(text)
        statements = tuple(s for s in map(self._statement, sentences) if s is not None)
        return ParsedText(statements, self._generate(statements) == text)

    def _statement(self, sentence: str) -> Statement | None:
        tables = self.population
        for a, attribute in enumerate(tables.attributes):
            for p, phrasing in enumerate(attribute.phrasings[: tables.config.phrasings]):
                if words := phrasing.match(sentence):
                    person, value = self._people.get(words[0]), self._values[a].get(words[1])
                    return Statement(person, a, p, value, self._truth(person, a, value))
        return None

    def _truth(self, person: int | None, attribute: int, value: int | None) -> Literal["true", "false", "unknown"]:
        if person is None or value is None:
            return "unknown"
        return "true" if self.population.truth[person, attribute] == value else "false"

    def _generate(self, statements: tuple[Statement, ...]) -> str | None:
        """The document of the grammar with these statements, if there is one."""
        people = {s.person for s in statements}
        attributes = {s.attribute for s in statements}
        if len(people) != 1 or len(attributes) != len(statements) or len(statements) not in self.population.lengths:
            return None
        (person,) = people
        choices = [AttributeChoice(s.attribute, s.phrasing, s.value) for s in statements if s.value is not None]
        return None if person is None else self.population.document(person, choices)

    @cached_property
    def _people(self) -> dict[str, int]:
        names = self.population.names
        full = {f"{first} {family}": i for i, (first, family) in enumerate(names)}
        return full | {first: i for i, (first, _) in enumerate(names)}

    @cached_property
    def _values(self) -> tuple[dict[str, int], ...]:
        return tuple({word: i for i, word in enumerate(words)} for words in self.population.values)
