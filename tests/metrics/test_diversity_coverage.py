"""Oracles: counts by hand, and exact binomial coefficients."""

import math

import numpy as np
import pytest
from scipy.special import comb

from tailkeep.metrics import band_coverage


def test_a_band_counts_its_types_and_those_that_the_sample_has():
    real = [1, 1, 2, 3, 5, 200, 0]
    sample = [1, 0, 0, 4, 0, 9, 0]
    bands = {band.name: band for band in band_coverage(real, sample)}
    assert list(bands) == ["1", "2_3", "4_10", "11_100", "over_100"]
    assert [bands[name].types for name in bands] == [2, 2, 1, 0, 1]
    assert (bands["1"].covered, bands["2_3"].covered, bands["4_10"].covered, bands["over_100"].covered) == (
        0.5,
        0.5,
        0,
        1,
    )
    assert math.isnan(bands["11_100"].covered)
    assert math.isnan(bands["11_100"].expected)


def test_the_expectation_is_that_of_sampling_without_replacement():
    real, sample_counts = np.array([1, 3, 6]), 4
    total = int(real.sum())
    for band, count in zip(band_coverage(real, [4, 0, 0], firsts=(1, 2, 4)), real, strict=True):
        assert band.expected == pytest.approx(1 - comb(total - count, sample_counts) / comb(total, sample_counts))


def test_the_whole_real_text_covers_itself():
    real = [1, 2, 7, 150]
    assert all(band.covered == band.expected == 1 for band in band_coverage(real, real) if band.types)


def test_nothing_covers_nothing():
    assert all(band.covered == band.expected == 0 for band in band_coverage([1, 2], [0, 0]) if band.types)


def test_real_samples_cover_what_is_expected_on_average():
    rng = np.random.default_rng(0)
    real = np.repeat([1, 2, 5, 20, 150], [400, 200, 100, 40, 10])
    items = np.repeat(np.arange(len(real)), real)
    draws = [np.bincount(rng.permutation(items)[:1000], minlength=len(real)) for _ in range(300)]
    for bands in zip(*(band_coverage(real, sample_counts) for sample_counts in draws), strict=True):
        # Four standard errors of the mean of 300 draws, at most .5 / sqrt(types) each.
        room = 4 * 0.5 / math.sqrt(300 * bands[0].types)
        assert np.mean([band.covered for band in bands]) == pytest.approx(bands[0].expected, abs=room)


@pytest.mark.parametrize(
    ("real", "sample", "firsts", "reason"),
    [
        ([1, 2], [1], (1,), "same types"),
        ([1, 1], [2, 1], (1,), "the sample has 3 items, the real text 2"),
        ([1.5], [1.0], (1,), "counts must be one whole number >= 0 per type"),
        ([-1], [0], (1,), "counts must be one whole number >= 0 per type"),
        ([1], [1], (2, 1), "begin at"),
        ([1], [1], (0, 1), "begin at"),
    ],
)
def test_invalid_counts_are_an_error(real, sample, firsts, reason):
    with pytest.raises(ValueError, match=reason):
        band_coverage(np.array(real), np.array(sample), firsts=firsts)
