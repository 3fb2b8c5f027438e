"""Uniform numbers that depend on a position, not on an order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tailkeep.rules import position_uniforms


@given(st.integers(0, 2**70), st.text(max_size=20), st.text(max_size=8), st.integers(0, 40), st.integers(0, 40))
def test_a_number_does_not_depend_on_how_many_there_are(seed, document_id, stream, few, more):
    long = position_uniforms(seed, document_id, few + more, stream)
    assert (long[:few] == position_uniforms(seed, document_id, few, stream)).all()


def test_the_numbers_never_change():
    # Taken once: another release of tailkeep, numpy or Python must give the same edits.
    assert position_uniforms(0, "a.jsonl:1", 3, "judge").tolist() == [
        0.4712924703108836,
        0.14839064921271694,
        0.1751074210676542,
    ]


@pytest.mark.parametrize("other", [(1, "a", "s"), (0, "b", "s"), (0, "a", "t"), (0, 'a", "s', "")])
def test_another_seed_document_or_stream_gives_independent_numbers(other):
    one, two = position_uniforms(0, "a", 20_000, "s"), position_uniforms(other[0], other[1], 20_000, other[2])
    # Five standard errors of a correlation of 0.
    assert abs(np.corrcoef(one, two)[0, 1]) < 5 / np.sqrt(20_000)


def test_the_numbers_are_uniform_within_and_across_documents():
    within = position_uniforms(3, "a", 50_000, "s")
    across = np.array([position_uniforms(3, f"file.jsonl:{row}", 5, "s")[4] for row in range(5_000)])
    assert stats.kstest(within, "uniform").pvalue > 1e-4
    assert stats.kstest(across, "uniform").pvalue > 1e-4
    assert within.min() >= 0
    assert within.max() < 1


def test_a_document_id_may_hold_what_no_encoding_takes():
    assert position_uniforms(0, "\ud83d", 1, "s") != position_uniforms(0, "\ud83e", 1, "s")
