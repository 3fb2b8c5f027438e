"""The sliced Wasserstein distance against closed forms."""

import numpy as np
import pytest

from tailkeep.metrics import sliced_wasserstein

POINTS = np.random.default_rng(0).normal(size=(80, 2))


def test_a_set_has_no_distance_to_itself_in_any_order():
    assert sliced_wasserstein(POINTS, POINTS[::-1]) == pytest.approx(0, abs=1e-12)


def test_a_shift_costs_its_length_times_two_over_pi():
    # The mean of |cos| over half a turn.
    distance = sliced_wasserstein(POINTS, POINTS + np.array([3, 4]), directions=1000)
    assert distance == pytest.approx(5 * 2 / np.pi, rel=1e-5)


def test_doubling_a_set_costs_the_mean_shadow():
    angles = np.pi * np.arange(32) / 32
    shadows = POINTS @ np.stack([np.cos(angles), np.sin(angles)])
    assert sliced_wasserstein(POINTS, 2 * POINTS) == pytest.approx(np.abs(shadows).mean())


def test_sets_of_different_sizes_are_compared_as_distributions():
    assert sliced_wasserstein(POINTS, np.repeat(POINTS, 3, axis=0)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("other", "directions", "words"),
    [
        (np.zeros((4, 3)), 8, "in the plane|Give"),
        (np.zeros((0, 2)), 8, "Give"),
        (np.full((4, 2), np.nan), 8, "not finite"),
        (POINTS, 0, "directions must be >= 1, got 0"),
    ],
)
def test_invalid_points_are_an_error(other, directions, words):
    with pytest.raises(ValueError, match=words):
        sliced_wasserstein(POINTS, other, directions=directions)
