import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.lab.ecosystem.learner import (
    assign_members,
    assign_members_randomly,
    assign_spans,
    member_seed,
    mixture_log_probs,
)

shares_of_one = st.lists(st.integers(1, 20), min_size=2, max_size=5).map(lambda parts: [p / sum(parts) for p in parts])


def test_equal_members_take_turns():
    assert assign_members(7, [1 / 3, 1 / 3, 1 / 3]).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert assign_members(8, [0.5, 0.25, 0.25]).tolist() == [0, 1, 2, 0, 0, 1, 2, 0]


@given(st.integers(0, 60), shares_of_one)
def test_every_beginning_of_the_row_is_shared_to_less_than_a_place_and_all_members(places, shares):
    members = assign_members(places, shares)
    assert members.shape == (places,)
    for end in range(places + 1):
        counts = np.bincount(members[:end], minlength=len(shares))
        assert (np.abs(counts - end * np.array(shares)) < len(shares) - 1 + 1e-6).all()


@given(st.integers(0, 60), shares_of_one, st.integers(0, 5))
def test_shuffling_changes_who_gets_a_place_and_not_how_many(places, shares, seed):
    shuffled = assign_members_randomly(places, shares, seed=seed)
    assert sorted(shuffled) == sorted(assign_members(places, shares))
    assert shuffled.tolist() == assign_members_randomly(places, shares, seed=seed).tolist()


def test_another_seed_deals_other_places():
    one, other = (assign_members_randomly(50, [0.5, 0.5], seed=seed).tolist() for seed in (0, 1))
    assert one != other


@given(st.integers(0, 60), shares_of_one, st.integers(0, 5))
def test_unbroken_pieces_cover_every_place_once_and_in_order(places, shares, seed):
    pieces = assign_spans(places, shares, seed=seed)
    assert np.concatenate([np.arange(0), *(piece for _, piece in pieces)]).tolist() == list(range(places))
    for member, piece in pieces:
        assert 0 < len(piece) <= places * shares[member] + 1
    assert len({member for member, _ in pieces}) == len(pieces)


def test_every_member_comes_first_under_some_seed():
    firsts = {assign_spans(10, [0.5, 0.5], seed=seed)[0][0] for seed in range(20)}
    assert firsts == {0, 1}


def test_members_draw_with_seeds_of_their_own():
    assert len({member_seed(seed, member) for seed in range(4) for member in range(4)}) == 16


def test_a_mixtures_probability_is_the_weighted_mean_of_probabilities():
    one, other = np.log(np.array([0.5, 1.0, 0.1], np.float32)), np.log(np.array([0.1, 1.0, 0.9], np.float32))
    expected = np.log(0.75 * np.array([0.5, 1.0, 0.1]) + 0.25 * np.array([0.1, 1.0, 0.9]))
    np.testing.assert_allclose(mixture_log_probs([one, other], [0.75, 0.25]), expected, atol=1e-6)


def test_a_token_impossible_for_one_member_is_possible_for_the_mixture():
    rows = [np.array([-np.inf, -np.inf], np.float32), np.array([0.0, -np.inf], np.float32)]
    with np.errstate(all="raise"):
        mixed = mixture_log_probs(rows, [0.5, 0.5])
    assert mixed.tolist() == pytest.approx([np.log(0.5), -np.inf])
