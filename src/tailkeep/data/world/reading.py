"""What a text says about a world, however broken the text.

Rule: only a whole sentence of the grammar states something, and a document is well formed if writing anew what was
read in it gives the same text.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from tailkeep.data.world.population import Choice, Population

_SENTENCE_BREAK = re.compile(r"(?<=\.)\s+")


@dataclass(frozen=True)
class Statement:
    """A sentence of the grammar, by index. `person` and `value` are None where the word names none of this world.

    `truth` is `unknown` if the person or the value is, else `true` or `false`.
    """

    person: int | None
    attribute: int
    phrasing: int
    value: int | None
    truth: Literal["true", "false", "unknown"]


@dataclass(frozen=True)
class Reading:
    """What one document states. `well_formed`: the whole text is a document of the grammar, be it true or false."""

    statements: tuple[Statement, ...]
    well_formed: bool


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads texts about one population."""

    population: Population

    def read(self, document: str) -> Reading:
        """The statements in `document`, in order; white space around it is ignored. Never raises."""
        text = document.strip()
        sentences = _SENTENCE_BREAK.split(text)
        statements = tuple(s for s in map(self._statement, sentences) if s is not None)
        return Reading(statements, self._rewritten(statements) == text)

    def _statement(self, sentence: str) -> Statement | None:
        tables = self.population
        for a, attribute in enumerate(tables.attributes):
            for p, phrasing in enumerate(attribute.phrasings[: tables.config.phrasings]):
                if found := phrasing.match(sentence):
                    person, value = self._people.get(found[0]), self._values[a].get(found[1])
                    return Statement(person, a, p, value, self._truth(person, a, value))
        return None

    def _truth(self, person: int | None, attribute: int, value: int | None) -> Literal["true", "false", "unknown"]:
        if person is None or value is None:
            return "unknown"
        return "true" if self.population.truth[person, attribute] == value else "false"

    def _rewritten(self, statements: tuple[Statement, ...]) -> str | None:
        """The document of the grammar that makes these statements, if there is one."""
        people = {s.person for s in statements}
        attributes = {s.attribute for s in statements}
        if len(people) != 1 or len(attributes) != len(statements) or len(statements) not in self.population.lengths:
            return None
        (person,) = people
        choices = [Choice(s.attribute, s.phrasing, s.value) for s in statements if s.value is not None]
        return None if person is None else self.population.document(person, choices)

    @cached_property
    def _people(self) -> dict[str, int]:
        names = self.population.names
        full = {f"{given} {family}": i for i, (given, family) in enumerate(names)}
        return full | {given: i for i, (given, _) in enumerate(names)}

    @cached_property
    def _values(self) -> tuple[dict[str, int], ...]:
        return tuple({word: i for i, word in enumerate(words)} for words in self.population.values)
