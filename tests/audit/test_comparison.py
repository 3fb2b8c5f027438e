"""The permutation tests: their null distribution, their corrections and their error rate."""

import math

import numpy as np
import pytest

from tailkeep.audit import run
from tailkeep.audit.comparison import (
    compare,
    match_lengths,
    permutation_p_values,
    permute_sides,
    prior_statistics,
    statistics,
)
from tailkeep.audit.config import MAX_TESTS, PermutationTestConfig, SampleConfig
from tailkeep.audit.findings import Origins, language_finding
from tailkeep.data.hashing import split_words
from tailkeep.errors import InputError
from tailkeep.metrics import holm_correction
from tests.audit.conftest import prose, sample_of, write_jsonl


def test_holm_rejects_step_by_step():
    assert holm_correction([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_correction([0.5, 0.9]) == [1.0, 1.0]
    assert holm_correction([]) == []
    assert holm_correction([0.01, math.nan, 0.04, 0.03]) == pytest.approx([0.03, math.nan, 0.06, 0.06], nan_ok=True)


def test_permutations_are_balanced_and_the_first_is_the_observed_division():
    is_input = permute_sides(50, 400, seed=0)
    assert is_input[:, 0].tolist() == [True] * 50 + [False] * 50
    assert (is_input.sum(axis=0) == 50).all()
    assert abs(is_input[:, 1:].mean(axis=1) - 0.5).max() < 0.12


def test_both_sides_have_as_many_documents_of_as_many_words():
    texts = prose(60, words=20, seed=0)
    matched = match_lengths(sample_of(texts[:25]), sample_of(texts[25:]), SampleConfig(documents=20, max_words=10))
    assert matched.words == 10
    assert len(matched.texts) == 2 * matched.documents == 50
    assert split_words(matched.texts).counts.tolist() == [10] * 50
    with pytest.raises(InputError, match="the samples have 19 and 35 documents"):
        match_lengths(sample_of(texts[:19]), sample_of(texts[25:]), SampleConfig())


def test_the_length_of_a_word_is_counted_in_characters():
    sides = [
        sample_of([f"{word}{'e' * (number % 3)} zwei drei vier" for number in range(20)])
        for word in ("größe", "groste")
    ]
    matched = match_lengths(*sides, SampleConfig(documents=20, min_words=4))
    values = {name: of for name, _, of in statistics(matched, permute_sides(matched.documents, 3, 0))}
    # Case folding makes ss of the sharp s.
    assert values["word length"] == pytest.approx(((6 + 0.95 + 12) / 4, (6 + 0.95 + 12) / 4))


def test_a_prior_reads_the_documents_as_they_are_spelled():
    texts = [f"The STRASSE of Straße, {number} and Café." for number in range(40)]
    read = []

    def log_probs(texts):
        read.extend(texts)
        return [np.full(3, -1.0, np.float32) for _ in texts]

    sides = sample_of(texts[:20]), sample_of(texts[20:])
    compare(*sides, SampleConfig(documents=20, min_words=4), PermutationTestConfig(), 0, log_probs)
    assert read[0] == "The STRASSE of Straße, 0 and Café."


@pytest.mark.slow
def test_equal_corpora_differ_significantly_no_more_often_than_the_level():
    """Each division in turn is taken as the observed one and ranked among all."""
    texts = prose(60, words=20, seed=3, types=300)
    matched = match_lengths(sample_of(texts[:30]), sample_of(texts[30:]), SampleConfig(max_words=16))
    results = list(statistics(matched, permute_sides(matched.documents, 640, 0)))
    p_values = np.stack([permutation_p_values(name, values) for name, values, _ in results])
    assert p_values.min() == pytest.approx(1 / 641)
    alarms = [min(holm_correction(column)) <= 0.05 for column in p_values.T.tolist()]
    assert 0 < np.mean(alarms) <= 0.05


def test_higher_confidence_on_one_side_is_detected_and_so_is_a_narrower_spread():
    rng = np.random.default_rng(0)
    sides = [rng.normal(-1, 0.05, (60, 40)), rng.normal(-2, 0.05, (60, 40)) + rng.normal(0, 0.6, (60, 1))]
    log_probs = [row.astype(np.float32) for row in np.minimum(np.concatenate(sides), -1e-6)]
    by_name = {
        name: (values, values_of) for name, values, values_of in prior_statistics(log_probs, permute_sides(60, 640, 0))
    }
    assert len(by_name) + 20 <= MAX_TESTS
    surprise, (input_mean, reference_mean) = by_name["prior: surprise"]
    assert (input_mean, reference_mean) == pytest.approx((1, 2), abs=0.2)
    assert abs(surprise[0]) > np.abs(surprise[1:]).max()
    spread, (narrow, wide) = by_name["prior: spread of surprise"]
    assert narrow == pytest.approx(float(np.std([-row.mean() for row in log_probs[:60]])), rel=1e-4)
    assert wide > 5 * narrow
    assert spread[0] < spread[1:].min()


def language_comparison(input_text, reference_text):
    """The comparison of 40 documents of each text, of which half of the sentences vary."""
    rng = np.random.default_rng(0)
    places = ("house", "river", "garden", "village", "market", "school", "harbour", "forest")

    def documents(text):
        return [
            " ".join(text.format(*rng.choice(places, 2)) if rng.random() < 0.8 else NEUTRAL for _ in range(6))
            for _ in range(40)
        ]

    sides = (sample_of(documents(text)) for text in (input_text, reference_text))
    return compare(*sides, SampleConfig(documents=40), PermutationTestConfig(), seed=0)


NEUTRAL = "The man came home from the field with his dog, and she was not there."
PLAIN = "He went to the {} on that day, and at the {} they had bread for her."
ASKING = "Perhaps he went to the {}, and which of the {} was built by them? They knew that."


def test_the_panel_tells_what_differs_in_which_direction_and_what_does_not():
    comparison = language_comparison(PLAIN, ASKING)
    differ = {test.name: test.difference for test in comparison.language if test.flagged}
    assert set(differ) >= {"questions", "hedges", "passives"}
    assert all(difference < 0 for name, difference in differ.items() if name in {"questions", "hedges", "passives"})
    assert "dashes" not in {test.name for test in comparison.language}
    finding = language_finding(comparison, 0.05, Origins())
    assert finding.flagged
    assert "fewer questions 0 vs." in finding.sentence


def test_equal_texts_do_not_differ_in_the_panel():
    finding = language_finding(language_comparison(ASKING, ASKING), 0.05, Origins())
    assert not finding.flagged
    assert finding.sentence.startswith("Its language does not differ significantly")


def test_another_language_is_said_not_to_be_covered():
    german = "Er ging zum {} und dann nach {}, wo es Brot und Wasser und Kuchen gab, und dort blieb er drei Tage lang."
    comparison = language_comparison(german, PLAIN)
    finding = language_finding(comparison, 0.05, Origins())
    assert not comparison.language
    assert "frequent English words are" in finding.sentence
    assert "of the corpus's words, below the 15% from which" in finding.sentence


@pytest.mark.parametrize("words", [100, 128, 150, 333])
def test_documents_of_one_length_do_not_differ_by_rounding(words, tmp_path):
    """Random halves of one text whose documents all have so many words of one length, and equal documents."""
    rng = np.random.default_rng(words)
    texts = [" ".join(rng.choice(["aa", "bb", "cc", "dd"], words)) for _ in range(120)]
    for number, parts in enumerate([(texts[::2], texts[1::2]), ([texts[0]] * 60, [texts[0]] * 60)]):
        paths = [write_jsonl(tmp_path / f"{number}-{side}.jsonl", part) for side, part in zip("ab", parts, strict=True)]
        outcome = run({"sample": {"max_words": 64}}, paths[0], tmp_path / f"{number}", reference=paths[1])
        tests = {test["name"]: test for test in outcome.summary["comparison"]["tests"]}
        assert tests["document length"]["p"] == tests["word length"]["p"] == 1
        assert not any(test["flagged"] for test in tests.values())
