"""The expected coverage against sampled parts."""

import numpy as np
import pytest

from tailkeep.audit.keywords import _bands, _probability_within


def test_expected_coverage_agrees_with_sampled_parts():
    """A word is in c documents, each of which falls into a part with probability s."""
    rng, share = np.random.default_rng(0), 0.3
    documents = np.repeat([1, 3, 10, 40], 50)
    rows = np.array([(c, (documents == c).sum(), 0.25 * (documents == c).sum()) for c in (1, 3, 10, 40)], np.float64)
    types, reference_covered = np.zeros(12), np.zeros(12)
    for _ in range(300):
        first = rng.binomial(documents, share)
        second = rng.binomial(documents - first, share / (1 - share))
        for band in range(12):
            inside = (first >= 2**band) & (first < 2 ** (band + 1))
            types[band] += inside.sum() / 300
            reference_covered[band] += (inside & (second > 0)).sum() / 300
    bands = _bands(rows, share)
    assert [band.first for band in bands] == [1, 2, 4, 8, 16]
    for number, band in enumerate(bands):
        assert band.types == pytest.approx(types[number], rel=0.15)
        assert band.reference_covered == pytest.approx(reference_covered[number] / types[number], abs=0.05)
        assert band.covered == pytest.approx(0.25)
    assert _probability_within(np.array([2.0]), 0.5, 1, 1) == pytest.approx([0.5])
