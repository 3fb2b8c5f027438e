import math
from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.config import dump_tree, parse_yaml, validate
from tailkeep.data import World, WorldConfig
from tailkeep.data.world.population import AttributeChoice, draw_indices, zipf_shares
from tailkeep.errors import ConfigError

TINY = World(WorldConfig(seed=3, people=3, attributes=3, values=2, phrasings=2, min_sentences=1, max_sentences=3))
DEMO = World()


def derivations(world):
    """Every way to make a document of `world`, spelled out independently of `World.sample`."""
    size = world.config
    for person in range(size.people):
        for length in range(size.min_sentences, size.max_sentences + 1):
            for attributes in permutations(range(size.attributes), length):
                for phrasings in product(range(size.phrasings), repeat=length):
                    yield person, attributes, phrasings


def write(world, person, attributes, phrasings):
    truth = world.population.truth
    choices = [AttributeChoice(a, p, int(truth[person, a])) for a, p in zip(attributes, phrasings, strict=True)]
    return world.population.document(person, choices)


def every_document(world):
    return [write(world, *derivation) for derivation in derivations(world)]


def test_probabilities_of_all_documents_sum_to_one():
    documents = every_document(TINY)
    assert len(set(documents)) == len(documents)
    assert math.fsum(math.exp(TINY.log_probability(document)) for document in documents) == pytest.approx(1, abs=1e-12)


def test_entropy_is_the_expected_surprise():
    surprises = [-TINY.log_probability(document) for document in every_document(TINY)]
    assert TINY.entropy == pytest.approx(math.fsum(math.exp(-s) * s for s in surprises), rel=1e-12)


def test_documents_are_sampled_with_their_probabilities():
    n = 40_000
    counts = Counter(TINY.sample(n, np.random.default_rng(0)))
    chances = {document: math.exp(TINY.log_probability(document)) for document in every_document(TINY)}
    assert counts.keys() <= chances.keys()
    statistic = sum((counts[d] - n * p) ** 2 / (n * p) for d, p in chances.items())
    cells = len(chances)
    # Pearson's statistic has mean cells - 1 and variance 2 (cells - 1), plus sum 1/np for the rare cells.
    spread = math.sqrt(2 * cells + sum(1 / (n * p) for p in chances.values()))
    assert abs(statistic - (cells - 1)) < 5 * spread


def test_the_probability_of_a_fact_is_that_of_the_documents_which_state_it():
    totals = np.zeros(len(TINY.facts))
    for person, attributes, phrasings in derivations(TINY):
        chance = math.exp(TINY.log_probability(write(TINY, person, attributes, phrasings)))
        totals[[person * TINY.config.attributes + attribute for attribute in attributes]] += chance
    assert totals.tolist() == pytest.approx([fact.probability for fact in TINY.facts])


def test_facts_are_listed_from_frequent_to_rare_and_name_true_values():
    probabilities = [fact.probability for fact in DEMO.facts]
    assert probabilities == sorted(probabilities, reverse=True)
    assert len(DEMO.facts) == DEMO.config.people * DEMO.config.attributes
    text = f"{DEMO.facts[0].person} was born in the town of {DEMO.facts[0].value}."
    assert DEMO.parse(text).statements[0].truth == "true"


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), people=st.integers(1, 30), attributes=st.integers(1, 8), phrasings=st.integers(1, 6))
def test_a_sampled_document_is_parsed_into_its_statements(seed, people, attributes, phrasings):
    world = World(
        WorldConfig(
            seed=seed,
            people=people,
            attributes=attributes,
            phrasings=phrasings,
            min_sentences=1,
            max_sentences=attributes,
            documents=20,
        )
    )
    for document in world.corpus():
        reading = world.parse(document)
        assert reading.well_formed
        assert {statement.truth for statement in reading.statements} == {"true"}
        (person,) = {statement.person for statement in reading.statements}
        form = [(s.attribute, s.phrasing) for s in reading.statements]
        assert write(world, person, *zip(*form, strict=True)) == document
        assert world.log_probability(document) > -math.inf


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "{d} ",
        " {d}",
        "{d}\n",
        "{d} {d}",
        "{d} And more.",
        "x{d}",
        "{d}.",
    ],
)
def test_text_outside_the_grammar_has_no_probability(broken):
    document = DEMO.corpus()[0]
    assert DEMO.log_probability(document) > -math.inf
    assert DEMO.log_probability(broken.format(d=document)) == -math.inf


def test_a_document_too_short_or_with_a_falsehood_has_no_probability():
    first, rest = DEMO.corpus()[0].split(". ", 1)
    assert DEMO.log_probability(first + ".") == -math.inf
    statement = DEMO.parse(first + ".").statements[0]
    words = DEMO.population.values[statement.attribute]
    false = first.replace(words[statement.value], words[statement.value - 1])
    assert DEMO.log_probability(f"{false}. {rest}") == -math.inf


def test_a_world_follows_from_its_config_alone():
    config = WorldConfig(seed=5, people=7, documents=30, held_out=10)
    tree = parse_yaml(dump_tree(config.model_dump(mode="json")), source="test")
    same = World(validate(WorldConfig, tree, source="test"))
    assert same.corpus() == World(config).corpus()
    assert same.held_out() == World(config).held_out()
    assert same.questions() == World(config).questions()
    assert World(WorldConfig(seed=6, people=7, documents=30)).corpus() != same.corpus()


def test_held_out_documents_are_no_copy_of_the_corpus():
    assert len(DEMO.corpus()) == DEMO.config.documents
    assert len(DEMO.held_out()) == DEMO.config.held_out
    assert DEMO.held_out() != DEMO.corpus()[: DEMO.config.held_out]


def test_the_demo_world_is_small_enough_for_a_small_model():
    words = [len(document.split()) for document in DEMO.corpus()]
    assert 20 <= np.mean(words) <= 35
    assert len({word for document in DEMO.corpus() for word in document.split()}) < 400


def test_every_invented_word_names_one_thing_even_in_the_largest_world():
    world = World(WorldConfig(people=1000, attributes=8, values=500, phrasings=6))
    words = [name for names in world.population.names for name in names]
    words += [word for values in world.population.values for word in values]
    assert len({word.lower() for word in words}) == len(words) == 2 * 1000 + 8 * 500
    assert all(word.isalpha() for word in words)


def test_zipf_is_the_closed_form():
    assert zipf_shares(3, 1.0).tolist() == pytest.approx([6 / 11, 3 / 11, 2 / 11])
    assert zipf_shares(4, 0.0).tolist() == [0.25] * 4
    assert zipf_shares(2, 2.0).tolist() == pytest.approx([0.8, 0.2])


def test_a_uniform_number_at_the_very_end_gives_the_last_index():
    class AlmostOne:
        def random(self, size):
            return np.full(size, np.nextafter(1, 0))

    assert draw_indices(zipf_shares(60, 1.0), 2, AlmostOne()).tolist() == [59, 59]
    assert draw_indices(np.full(10, 0.1), 1, AlmostOne()).tolist() == [9]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"max_sentences": 5}, "min_sentences <= max_sentences <= attributes"),
        ({"min_sentences": 4, "max_sentences": 3}, "min_sentences <= max_sentences <= attributes"),
        ({"people": 0}, "people"),
        ({"attributes": 9}, "attributes"),
        ({"phrasings": 7}, "phrasings"),
        ({"values": 1}, "values"),
        ({"people_exponent": -1}, "people_exponent"),
        ({"persons": 3}, "Did you mean 'people'|unknown key"),
    ],
)
def test_an_impossible_world_is_an_error(choices, message):
    with pytest.raises(ConfigError, match=message):
        validate(WorldConfig, choices, source="test")


def test_people_are_counted_by_document_and_in_order_of_frequency():
    world = World(WorldConfig(people=5, values=6, documents=300))
    counts = world.count_people(world.corpus())
    names = [" ".join(name) for name in world.population.names]
    assert counts.sum() == 300
    assert world.count_people([f"{names[2]} met {names[2]}.", names[4], "nobody"]).tolist() == [0, 0, 1, 0, 1]
    assert counts[0] == max(counts)
