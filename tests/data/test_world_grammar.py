from itertools import product

import pytest

from tailkeep.data.world.grammar import ATTRIBUTES
from tailkeep.data.world.population import MAX_ATTRIBUTES, MAX_PHRASINGS

PHRASINGS = [phrasing for attribute in ATTRIBUTES for phrasing in attribute.phrasings]


@pytest.mark.parametrize("phrasing", PHRASINGS, ids=lambda phrasing: phrasing.text)
def test_a_phrasing_is_one_english_sentence_with_the_person_before_the_value(phrasing):
    text = phrasing.text
    assert text.count("{person}") == text.count("{value}") == 1
    assert 0 <= text.index("{person}") < text.index("{value}")
    assert text.endswith(".")
    assert text.count(".") == 1
    assert text[0].isupper() or text.startswith("{person}")
    assert text.split(" ") == text.split()


@pytest.mark.parametrize("person", ["Mara", "Mara Tolvin"])
def test_a_sentence_has_one_derivation(person):
    for phrasing in PHRASINGS:
        sentence = phrasing.sentence(person, "ostrel")
        matches = [(other, other.match(sentence)) for other in PHRASINGS if other.match(sentence)]
        assert matches == [(phrasing, (person, "ostrel"))]


def test_a_split_sentence_is_joined_again_by_one_space():
    for phrasing, person in product(PHRASINGS, ["Mara", "Mara Tolvin"]):
        context, rest = phrasing.split(person, "ostrel")
        assert f"{context} {rest}" == phrasing.sentence(person, "ostrel")
        assert rest.startswith("ostrel")
        assert person in context


def test_the_sizes_that_a_world_may_have_are_those_of_the_grammar():
    assert len(ATTRIBUTES) == MAX_ATTRIBUTES
    assert {len(attribute.phrasings) for attribute in ATTRIBUTES} == {MAX_PHRASINGS}
