import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.data import World, WorldConfig

WORLD = World(WorldConfig(seed=1, people=8, values=4, documents=60))
CORPUS = WORLD.corpus()
GIVEN, FAMILY = WORLD.population.names[0]
TOWNS = WORLD.population.values[0]
HOME = TOWNS[WORLD.population.truth[0, 0]]
ELSEWHERE = next(town for town in TOWNS if town != HOME)


def truths(document):
    return [statement.truth for statement in WORLD.parse(document).statements]


def born(person, town):
    return f"{person} was born in the town of {town}."


def test_a_statement_is_true_false_or_unknown():
    assert truths(born(GIVEN, HOME)) == ["true"]
    assert truths(born(f"{GIVEN} {FAMILY}", ELSEWHERE)) == ["false"]
    assert truths(born(GIVEN, "Atlantis")) == ["unknown"]
    assert truths(born("Nobody", HOME)) == ["unknown"]
    assert truths(born(f"{GIVEN} Nobody", HOME)) == ["unknown"]


def test_a_value_of_another_attribute_is_unknown():
    instrument = WORLD.population.values[1][0]
    assert truths(born(GIVEN, instrument)) == ["unknown"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "{home}",
        "{given} was born in the town of",
        "{given} was born in in the town of {home}.",
        "was born in the town of {home}.",
        "{given} was born in the town of {home}",
        "so {given} {family} was born in the town of {home}.",
    ],
)
def test_a_broken_sentence_states_nothing(text):
    reading = WORLD.parse(text.format(given=GIVEN, family=FAMILY, home=HOME))
    assert reading.statements == ()
    assert not reading.well_formed


def test_whole_sentences_are_parsed_among_broken_ones():
    text = f"the the. {born(GIVEN, HOME)} {GIVEN} was. \n\n {born(GIVEN, ELSEWHERE)} {GIVEN} lik"
    assert truths(text) == ["true", "false"]
    assert not WORLD.parse(text).well_formed


def test_a_false_document_is_well_formed():
    first, rest = CORPUS[0].split(". ", 1)
    statement = WORLD.parse(first + ".").statements[0]
    words = WORLD.population.values[statement.attribute]
    false = first.replace(words[statement.value], words[statement.value - 1])
    reading = WORLD.parse(f"{false}. {rest}")
    assert reading.well_formed
    assert reading.statements[0].truth == "false"


def test_a_document_is_about_one_person_named_in_full_once():
    other = WORLD.population.names[1][0]
    instrument = WORLD.population.values[1][WORLD.population.truth[0, 1]]
    plays = f"{{}} plays the {instrument} in a small band."
    full = f"{GIVEN} {FAMILY}"
    assert WORLD.parse(f"{born(full, HOME)} {plays.format(GIVEN)}").well_formed
    assert not WORLD.parse(f"{born(full, HOME)} {plays.format(full)}").well_formed
    assert not WORLD.parse(f"{born(full, HOME)} {plays.format(other)}").well_formed
    assert not WORLD.parse(f"{born(GIVEN, HOME)} {plays.format(GIVEN)}").well_formed
    assert not WORLD.parse(f"{born(full, HOME)} {born(GIVEN, HOME)}").well_formed
    assert not WORLD.parse(f"{born(full, HOME)}  {plays.format(GIVEN)}").well_formed


@settings(deadline=None, max_examples=300)
@given(st.text() | st.lists(st.sampled_from(" ".join(CORPUS).split()), max_size=30).map(" ".join))
def test_any_text_can_be_parsed(text):
    reading = WORLD.parse(text)
    metrics = WORLD.truth_metrics([text])
    assert metrics["valid_share"] == float(reading.well_formed)
    if WORLD.log_probability(text) > -math.inf:
        assert reading.well_formed


def test_metrics_of_the_true_world_are_one_in_expectation():
    rng = np.random.default_rng(0)
    samples = [WORLD.truth_metrics(WORLD.sample(30, rng)) for _ in range(400)]
    for name in ("valid_share", "true_share"):
        assert {sample[name] for sample in samples} == {1.0}
    for name in ("common_fact_coverage", "rare_fact_coverage", "rare_phrasing_coverage"):
        values = np.array([sample[name] for sample in samples])
        assert abs(values.mean() - 1) < 5 * values.std(ddof=1) / math.sqrt(len(values))


def test_metrics_of_one_document_are_closed_forms():
    # One person, two attributes, both stated in each document; so p is 1 and one document covers all.
    world = World(WorldConfig(people=1, attributes=2, phrasings=1, min_sentences=2, max_sentences=2))
    assert world.truth_metrics(world.sample(1, np.random.default_rng(0))) == pytest.approx(
        {
            "valid_share": 1.0,
            "true_share": 1.0,
            "common_fact_coverage": 1.0,
            "rare_fact_coverage": 1.0,
            "rare_phrasing_coverage": math.nan,
        },
        nan_ok=True,
    )


def test_coverage_of_a_half_empty_sample_is_the_closed_form():
    # Two people at 2/3 and 1/3; each of two attributes is stated with chance 1/2.
    config = WorldConfig(people=2, attributes=2, values=2, phrasings=2, min_sentences=1, max_sentences=1)
    world = World(config)
    (given_0, family_0), (given_1, family_1) = world.population.names
    towns, truth = world.population.values[0], world.population.truth
    documents = [
        born(f"{given_0} {family_0}", towns[truth[0, 0]]),
        born(f"{given_0} {family_0}", towns[truth[0, 0]]),
        f"{given_1} {family_1} spent a happy childhood in {towns[1 - truth[1, 0]]}.",
        "garbage",
    ]
    metrics = world.truth_metrics(documents)
    assert metrics["valid_share"] == 3 / 4
    assert metrics["true_share"] == 2 / 3
    assert metrics["common_fact_coverage"] == pytest.approx(1 / (2 * (1 - (2 / 3) ** 4)))
    assert metrics["rare_fact_coverage"] == 0.0
    # The rare phrasing has chance 1/3, so its pairs have 1/9 and 1/18, two of each; a false statement counts.
    expected = 2 * (1 - (8 / 9) ** 4) + 2 * (1 - (17 / 18) ** 4)
    assert metrics["rare_phrasing_coverage"] == pytest.approx(1 / expected)


def test_a_world_reduced_to_its_most_frequent_person_loses_its_rare_facts():
    rng = np.random.default_rng(0)
    collapsed = [document for document in WORLD.sample(400, rng) if document.startswith(f"{GIVEN} {FAMILY}")]
    metrics = WORLD.truth_metrics(collapsed)
    assert metrics["valid_share"] == metrics["true_share"] == 1.0
    assert metrics["rare_fact_coverage"] == 0.0
    assert 0 < metrics["common_fact_coverage"] < 0.5


def test_no_documents_and_no_statements_have_no_shares():
    assert all(math.isnan(value) for value in WORLD.truth_metrics([]).values())
    metrics = WORLD.truth_metrics(["garbage"])
    assert math.isnan(metrics["true_share"])
    assert metrics["valid_share"] == metrics["rare_fact_coverage"] == 0.0


def test_coverage_outside_is_that_of_the_rare_facts_that_a_text_does_not_state():
    documents, seen = WORLD.sample(40, np.random.default_rng(0)), WORLD.sample(5, np.random.default_rng(1))
    nothing_seen = WORLD.coverage_outside(documents, [])
    assert nothing_seen["rare_fact_coverage_outside"] == WORLD.truth_metrics(documents)["rare_fact_coverage"]
    assert nothing_seen["rare_facts_outside"] == len(WORLD.facts) // 2
    outside = WORLD.coverage_outside(documents, seen)["rare_facts_outside"]
    assert WORLD.coverage_outside(documents, [*seen, *documents]) == {
        "rare_fact_coverage_outside": 0.0,
        "rare_facts_outside": WORLD.coverage_outside([], [*seen, *documents])["rare_facts_outside"],
    }
    assert outside <= len(WORLD.facts) // 2
    # The same text twice: all that it states was seen.
    assert WORLD.coverage_outside(seen, seen)["rare_fact_coverage_outside"] == 0.0


def test_without_a_rare_fact_outside_there_is_no_coverage():
    world = World(WorldConfig(people=2, attributes=2, values=2, min_sentences=2, max_sentences=2))
    everything = world.sample(60, np.random.default_rng(0))
    metrics = world.coverage_outside(everything, everything)
    assert metrics["rare_facts_outside"] == 0
    assert math.isnan(metrics["rare_fact_coverage_outside"])
