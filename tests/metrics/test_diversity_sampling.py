import numpy as np
import pytest

from tailkeep.metrics import effective_size, sample_by_weight, top_log_weights


def repeat_sampling(weights, size, draws, **choices):
    """How often each item is sampled, mean over `draws`."""
    with np.errstate(divide="ignore"):
        logs = np.log(np.array(weights, np.float64))
    rng = np.random.default_rng(0)
    shares = [sample_by_weight(logs, size, rng, **choices) for _ in range(draws)]
    return np.mean([np.bincount(one, minlength=len(weights)) for one in shares], axis=0), shares


def test_one_item_is_sampled_with_the_probability_of_its_weight():
    counts, _ = repeat_sampling([1, 2, 5, 0], 1, 4000)
    assert counts == pytest.approx([0.125, 0.25, 0.625, 0], abs=5 * 0.008)


def test_two_items_follow_the_closed_form_of_successive_sampling():
    shares = np.array([0.125, 0.25, 0.625])
    # First i, or first another j and then i among what is left.
    closed = [shares[i] + sum(shares[j] * shares[i] / (1 - shares[j]) for j in range(3) if j != i) for i in range(3)]
    counts, shares = repeat_sampling([1, 2, 5], 2, 4000)
    assert counts == pytest.approx(closed, abs=5 * 0.008)
    assert all(len(set(one)) == 2 and list(one) == sorted(one) for one in shares)


def test_an_item_is_sampled_at_most_max_repeats_times():
    counts, shares = repeat_sampling([1, 1e9, 1, 1, 1], 5, 200, max_repeats=3)
    assert counts[1] == 3
    assert max(np.bincount(one).max() for one in shares) == 3


def test_an_item_without_weight_is_never_sampled_even_if_others_must_repeat():
    counts, shares = repeat_sampling([0, 1, 0, 1], 5, 50)
    assert counts[0] == counts[2] == 0
    assert {tuple(np.bincount(one, minlength=4)[[1, 3]]) for one in shares} == {(2, 3), (3, 2)}


def test_a_sample_of_none_is_empty_and_one_of_all_holds_all():
    assert repeat_sampling([1, 1], 0, 1)[1][0].tolist() == []
    assert repeat_sampling([1, 7, 2], 3, 1)[1][0].tolist() == [0, 1, 2]


def test_weights_are_worth_as_many_as_kish_says():
    assert effective_size(np.zeros(7)) == pytest.approx(7)
    assert effective_size(np.log([1.0, 2.0, 3.0])) == pytest.approx(36 / 14)
    assert effective_size(np.array([-np.inf, 0.0, 0.0])) == pytest.approx(2)
    # Of logarithms that no float holds the exponential of.
    assert effective_size(np.array([2000.0, 1000.0])) == pytest.approx(1)


def test_the_highest_values_get_the_weight_and_ties_follow_the_index():
    assert np.exp(top_log_weights(np.array([1.0, 3.0, 2.0, 2.0]), 2)).tolist() == [0, 1, 1, 0]
