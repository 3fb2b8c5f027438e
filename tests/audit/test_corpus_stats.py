"""The frequency spectrum and histogram quantiles against closed forms."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from tailkeep.audit.corpus_stats import Spectrum, histogram_quantiles
from tailkeep.metrics import concentration, entropy


def test_a_spectrum_says_what_the_counts_say():
    counts = np.array([9, 5, 5, 3, 1, 1, 1, 1])
    spectrum = Spectrum(Counter(counts.tolist()))
    figures = spectrum.figures()
    assert figures["types"] == 8
    assert figures["entropy"] == pytest.approx(float(entropy(counts)))
    unequal, top = concentration(counts, 3)
    assert figures["gini"] == pytest.approx(float(unequal))
    assert float(top) == pytest.approx(19 / 26)
    assert figures["unseen_mass"] == pytest.approx(4 / 26)
    assert figures["tail_mass"] == pytest.approx(7 / 26)
    assert list(islice(spectrum.curve(), 3))[1] == pytest.approx((4 / 8, 4 / 26))
    assert spectrum.ranks()[0] == (1, 9)


def test_quantiles_lie_straight_between_the_edges_of_a_bin():
    edges = np.array([0.0, 1.0, 3.0])
    assert histogram_quantiles([2, 2], edges, [0.25, 0.5, 0.75]) == [0.5, 1.0, 2.0]
    assert np.isnan(histogram_quantiles([0, 0], edges, [0.5])).all()


def test_a_quantile_lies_in_a_bin_that_holds_something():
    edges = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    assert histogram_quantiles([0, 0, 5, 0], edges, [0, 0.5, 1]) == [2, 2.5, 3]
    assert histogram_quantiles([5, 0, 0, 5], edges, [0.25, 0.5, 0.75]) == [0.5, 1, 3.5]
    # Against the values themselves, within a bin of a quarter octave.
    values = np.random.default_rng(0).choice([10.0, 100.0, 1000.0], 2001)
    bins = 2.0 ** (np.arange(60) / 4)
    counts = np.histogram(values, bins)[0]
    for share, quantile in zip((0.1, 0.5, 0.9), histogram_quantiles(counts, bins, (0.1, 0.5, 0.9)), strict=True):
        assert quantile == pytest.approx(np.quantile(values, share), rel=0.2)
