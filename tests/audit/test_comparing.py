"""The comparison: its null, its corrections and its coverage, against closed forms and counted draws."""

import numpy as np
import pytest

from tailkeep.audit.comparison import match_lengths, permutation_p_values, permute_sides, prior_statistics, statistics
from tailkeep.audit.config import MAX_TESTS, SampleConfig
from tailkeep.audit.coverage import _bands, _probability_within
from tailkeep.audit.documents import HashSample, SampledDocument, smallest
from tailkeep.audit.keywords import importance_weights, log_odds, separation
from tailkeep.audit.recommend import plan_mixing
from tailkeep.data.hashing import BUCKETS, buckets_of, ngrams_of, split_words
from tailkeep.errors import InputError
from tailkeep.metrics import holm_correction
from tests.audit.conftest import prose
from tests.audit.test_counting import documents_of


def sampled(texts):
    return [
        SampledDocument(number, f"x:{number}", str(number), len(text.encode()), text)
        for number, text in enumerate(texts)
    ]


def test_holm_rejects_step_by_step():
    assert holm_correction([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_correction([0.5, 0.9]) == [1.0, 1.0]
    assert holm_correction([]) == []


def test_no_division_favours_a_side_and_the_first_is_the_true_one():
    found = permute_sides(50, 400, seed=0)
    assert found[:, 0].tolist() == [True] * 50 + [False] * 50
    assert (found.sum(axis=0) == 50).all()
    assert abs(found[:, 1:].mean(axis=1) - 0.5).max() < 0.12


def test_both_sides_have_as_many_documents_of_as_many_words():
    texts = prose(60, words=20, seed=0)
    matched = match_lengths(sampled(texts[:25]), sampled(texts[25:]), SampleConfig(documents=20, max_words=10))
    assert matched.words == 10
    assert len(matched.texts) == 2 * matched.documents == 50
    assert split_words(matched.texts).counts.tolist() == [10] * 50
    with pytest.raises(InputError, match="the samples have 19 and 35 documents"):
        match_lengths(sampled(texts[:19]), sampled(texts[25:]), SampleConfig())


@pytest.mark.slow
def test_documents_of_one_kind_are_told_apart_no_oftener_than_the_level():
    """Each division in turn is taken for the true one and ranked among all."""
    texts = prose(60, words=20, seed=3, types=300)
    matched = match_lengths(sampled(texts[:30]), sampled(texts[30:]), SampleConfig(max_words=16))
    found = list(statistics(matched, permute_sides(matched.documents, 640, 0)))
    p_values = np.stack([permutation_p_values(name, values) for name, values, _ in found])
    assert p_values.min() == pytest.approx(1 / 641)
    alarms = [min(holm_correction(column)) <= 0.05 for column in p_values.T.tolist()]
    assert 0 < np.mean(alarms) <= 0.05


def test_a_prior_that_is_surer_of_one_side_is_seen_and_its_spread():
    rng = np.random.default_rng(0)
    sides = [rng.normal(-1, 0.05, (60, 40)), rng.normal(-2, 0.05, (60, 40)) + rng.normal(0, 0.6, (60, 1))]
    asked = [row.astype(np.float32) for row in np.minimum(np.concatenate(sides), -1e-6)]
    found = {
        name: (values, values_of) for name, values, values_of in prior_statistics(asked, permute_sides(60, 640, 0))
    }
    assert len(found) + 20 <= MAX_TESTS
    surprise, (ours, theirs) = found["prior: surprise"]
    assert (ours, theirs) == pytest.approx((1, 2), abs=0.2)
    assert abs(surprise[0]) > np.abs(surprise[1:]).max()
    spread, (narrow, wide) = found["prior: spread of surprise"]
    assert narrow == pytest.approx(float(np.std([-row.mean() for row in asked[:60]])), rel=1e-4)
    assert wide > 5 * narrow
    assert spread[0] < spread[1:].min()


def test_a_sample_is_the_same_from_any_cut_and_hash_takes_every_document_alike():
    documents = documents_of([f"text {number}" for number in range(400)])
    whole = HashSample(50, "a.jsonl", 0)
    parts = [HashSample(50, "a.jsonl", 0), HashSample(50, "a.jsonl", 0)]
    for document in documents:
        whole.add(document)
        parts[document.row % 2].add(document)
    together = smallest([item for part in parts for item in part.documents()], 50)
    assert together == whole.documents()
    other = HashSample(50, "a.jsonl", 1)
    for document in documents:
        other.add(document)
    assert other.documents() != whole.documents()
    rows = [int(item.location.partition(":")[2]) for item in whole.documents()]
    assert 120 < np.mean(rows) < 280


def test_the_log_odds_of_equal_shares_are_nothing_and_grow_with_evidence():
    totals = np.array([1000.0, 2000.0])
    scores = log_odds(np.array([[10.0, 10.0, 100.0], [20.0, 2.0, 20.0]]), totals)
    assert scores[0] == pytest.approx(0, abs=1e-9)
    assert 0 < scores[1] < scores[2]


def test_separation_is_the_chance_that_one_is_above_the_other():
    assert separation(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1
    assert separation(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.5
    assert np.isnan(separation(np.array([]), np.array([1.0])))


def counted(side):
    found = np.zeros(BUCKETS, np.int64)
    for grams in ngrams_of(split_words([item.text.encode() for item in side]), 2):
        found += np.bincount(buckets_of(grams.hashes, BUCKETS), minlength=BUCKETS)
    return found


def test_importance_tells_kinds_apart_and_not_halves_of_one_kind():
    narrow, wide, more = prose(60, words=40, seed=1, types=30), *(prose(60, words=40, seed=s) for s in (2, 3))
    for ours, theirs, low, high in ((narrow, wide, 0.99, 1.0), (more, wide, 0.3, 0.7)):
        sides = sampled(ours), sampled(theirs)
        found = importance_weights(sides, tuple(counted(side) for side in sides), 3)
        assert low <= found.separation <= high
        assert len(found.examples) == 9


def test_coverage_expects_what_drawn_parts_give():
    """Against parts that are drawn: a word in c documents, each of which falls into a part with probability s."""
    rng, share = np.random.default_rng(0), 0.3
    documents = np.repeat([1, 3, 10, 40], 50)
    rows = np.array([(c, (documents == c).sum(), 0.25 * (documents == c).sum()) for c in (1, 3, 10, 40)], np.float64)
    types, own = np.zeros(12), np.zeros(12)
    for _ in range(300):
        first = rng.binomial(documents, share)
        second = rng.binomial(documents - first, share / (1 - share))
        for band in range(12):
            inside = (first >= 2**band) & (first < 2 ** (band + 1))
            types[band] += inside.sum() / 300
            own[band] += (inside & (second > 0)).sum() / 300
    bands = _bands(rows, share)
    assert [band.first for band in bands] == [1, 2, 4, 8, 16]
    for number, band in enumerate(bands):
        assert band.types == pytest.approx(types[number], rel=0.15)
        assert band.reference_covered == pytest.approx(own[number] / types[number], abs=0.05)
        assert band.covered == pytest.approx(0.25)
    assert _probability_within(np.array([2.0]), 0.5, 1, 1) == pytest.approx([0.5])


def test_repeats_give_the_weight_that_stands_beside_them():
    for advice in plan_mixing(300.0, 100.0, examples=500):
        if advice.repeats is not None:
            share = advice.repeats * 300 / (advice.repeats * 300 + 100)
            assert share == pytest.approx(advice.real_weight)
