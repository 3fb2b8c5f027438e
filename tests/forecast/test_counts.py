"""Pairs of counts: bursts, design effects, thinning, and texts in memory."""

import numpy as np
import pytest

from tailkeep.forecast.counts import BANDS, GROUPS, MAX_SAMPLED, RoundPairs, count_texts, count_words
from tailkeep.forecast.project import MeasuredItems

ONCE = BANDS[0]


def pairs_of(groups, real=None, exposure=1.0, background=None):
    """Rare items, beside a frequent one that decides which share of the text each group has."""
    pairs = RoundPairs(exposure)
    counts = np.ones(len(groups)) if real is None else real
    pairs.add(counts, counts, groups.astype(float))
    shares = np.ones(GROUPS) if background is None else background
    pairs.add(np.array([1e6]), np.array([1e6]), 1e6 * shares[None])
    return pairs


def test_independent_occurrences_have_dispersion_and_design_effect_one():
    rng = np.random.default_rng(0)
    pairs = pairs_of(rng.poisson(0.3, (5000, GROUPS)))
    assert pairs.dispersion() == pytest.approx(1, abs=0.02)
    assert pairs.design_effect(ONCE) < 2


def test_bursts_of_three_have_dispersion_three():
    rng = np.random.default_rng(1)
    assert pairs_of(3 * rng.poisson(0.1, (5000, GROUPS))).dispersion() == pytest.approx(3, abs=0.05)


def test_items_that_live_and_die_together_count_once():
    rng = np.random.default_rng(2)
    clusters = rng.poisson(0.3, (500, GROUPS))
    effects = [pairs_of(np.repeat(rng.poisson(0.3, (500, GROUPS)), 8, axis=0)).design_effect(ONCE) for _ in range(20)]
    assert np.mean(effects) == pytest.approx(8, rel=0.3)
    assert pairs_of(np.repeat(clusters, 8, axis=0)).dispersion() == pytest.approx(1, abs=0.1)


def test_groups_of_unequal_size_are_no_bursts():
    rng = np.random.default_rng(3)
    shares = np.arange(1, GROUPS + 1) / np.arange(1, GROUPS + 1).sum()
    pairs = pairs_of(rng.poisson(3 * shares, (5000, GROUPS)), background=shares)
    assert pairs.dispersion() == pytest.approx(1, abs=0.02)
    assert pairs.design_effect(ONCE) < 3


def test_an_item_of_a_longer_text_survives_with_its_chance_to_be_in_the_part():
    groups = np.zeros((1, GROUPS))
    groups[0, 0] = 3
    assert pairs_of(groups, exposure=2.0).alive(ONCE) == pytest.approx(1 - 0.5**3)
    assert pairs_of(groups, exposure=0.5).alive(ONCE) == 1


def test_the_number_alive_does_not_depend_on_the_ranges_in_which_items_come():
    rng = np.random.default_rng(5)
    real, groups = rng.integers(1, 30, 20_000).astype(float), rng.poisson(0.7, (20_000, GROUPS)).astype(float)
    whole, parts = RoundPairs(1.7), RoundPairs(1.7)
    whole.add(real, real, groups)
    for start in range(0, 20_000, 3000):
        part = slice(start, start + 3000)
        parts.add(real[part], real[part], groups[part])
    assert [whole.alive(band) for band in BANDS] == [parts.alive(band) for band in BANDS]


@pytest.mark.parametrize("together", [1, 8])
def test_a_sample_of_a_band_stands_for_as_many_items_as_the_whole_band_is_worth(together):
    rng = np.random.default_rng(6)
    pairs = pairs_of(np.repeat(rng.poisson(0.3, (4 * MAX_SAMPLED // together, GROUPS)), together, axis=0))
    worth = 4 * MAX_SAMPLED / pairs.design_effect(ONCE)
    assert pairs.independent_types(ONCE) == round(worth)
    assert MeasuredItems.of(pairs, ONCE).independent == min(MAX_SAMPLED, round(worth))


def test_a_text_that_holds_no_item_is_no_copy():
    pairs = RoundPairs(1e-9)
    pairs.add(np.ones(5), np.ones(5), np.zeros((5, GROUPS)))
    assert not pairs.is_copy


def test_the_first_items_by_hash_are_kept_and_no_more():
    pairs = RoundPairs(1.0)
    for start in range(5):
        written = np.full((1000, GROUPS), float(start))
        pairs.add(np.ones(1000), np.full(1000, 0.5), written, [np.full(1000, 7.0)])
    real, trained, earlier, totals = pairs.sample(ONCE)
    assert [set(column) for column in (real, trained, earlier)] == [{1.0}, {0.5}, {7.0}]
    # Ranges of hashes come in order, so those of the first two are a uniform sample.
    assert totals.tolist() == [0.0] * 1000 + [float(GROUPS)] * (MAX_SAMPLED - 1000)
    assert pairs.band_types(ONCE) == 5000


def test_moments_add_up_over_ranges():
    rng = np.random.default_rng(4)
    real, groups = rng.integers(1, 30, 400).astype(float), rng.poisson(1, (400, GROUPS)).astype(float)
    whole, parts = RoundPairs(1.0), RoundPairs(1.0)
    whole.add(real, real, groups)
    for start in range(0, 400, 100):
        part = slice(start, start + 100)
        parts.add(real[part], real[part], groups[part])
    for name in ("counts", "types", "sums", "squares", "group_shares"):
        np.testing.assert_allclose(getattr(whole.moments(), name), getattr(parts.moments(), name))


def test_new_items_are_apart():
    pairs = RoundPairs(1.0)
    pairs.add(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.full((2, GROUPS), 2.0))
    assert pairs.new_types == 1
    assert pairs.moments().types.tolist() == [1]


def test_texts_in_memory_are_cut_to_a_number_of_words():
    texts = ["a b c", "a b", "a"]
    assert count_words(texts) == 6
    assert count_texts(texts, 1).groups.sum() == 6
    assert count_texts(texts, 1, limit=4).groups.sum() == 4
    # Pairs never cross documents, and the pair that the cut parts is gone.
    assert count_texts(texts, 2).groups.sum() == 3
    assert count_texts(texts, 2, limit=4).groups.sum() == 2


def test_counts_align_to_other_items():
    counted = count_texts(["a b b"], 1)
    items = np.sort(np.concatenate([counted.hashes, np.array([5], np.uint64)]))
    aligned = counted.align(items).sum(axis=1)
    assert sorted(aligned.tolist()) == [0, 1, 2]
    assert counted.align(np.zeros(0, np.uint64)).shape == (0, GROUPS)
