import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.metrics import distinct_n

ragged = st.lists(st.lists(st.integers(-3, 5), max_size=12), max_size=6)


@settings(deadline=None)
@given(ragged, st.integers(1, 5))
def test_it_is_the_share_of_different_n_grams(sequences, n):
    grams = [tuple(s[i : i + n]) for s in sequences for i in range(len(s) - n + 1)]
    expected = len(set(grams)) / len(grams) if grams else math.nan
    assert distinct_n(sequences, n) == pytest.approx(expected, nan_ok=True)


def test_a_de_bruijn_sequence_never_repeats():
    cycle = [0, 0, 0, 1, 0, 1, 1, 1, 0, 0]
    assert distinct_n([cycle], 3) == 1.0
    assert distinct_n([cycle, cycle], 3) == 0.5


def test_one_repeated_token_has_one_n_gram():
    assert distinct_n([[7] * 103], 4) == pytest.approx(1 / 100)


def test_an_n_gram_does_not_cross_into_the_next_sequence():
    assert distinct_n([[1, 2], [3, 4], [1, 2]], 2) == pytest.approx(2 / 3)


def test_long_n_grams_over_a_large_vocabulary_do_not_collide():
    tokens = np.array(list(product([0, 1 << 40], repeat=8)), dtype=np.int64)
    assert distinct_n(tokens, 8) == 1.0


def test_sequences_shorter_than_n_have_no_diversity():
    assert math.isnan(distinct_n([[1], [], [2]], 2))
    assert math.isnan(distinct_n([], 1))


def test_n_below_one_is_an_error():
    with pytest.raises(ValueError, match="n must be >= 1, got 0"):
        distinct_n([[1]], 0)
