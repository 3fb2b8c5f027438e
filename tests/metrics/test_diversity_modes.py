import numpy as np
import pytest

from tailkeep.metrics import assign_modes, mode_shares, modes_alive, total_variation

CENTRES = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]


def test_a_point_belongs_to_its_nearest_centre_and_to_the_first_of_two():
    assert assign_modes([[1, 1], [9, 1], [5, 0], [0, 6]], CENTRES).tolist() == [0, 1, 0, 2]


def test_no_points_belong_nowhere():
    assert assign_modes(np.empty((0, 2)), CENTRES).shape == (0,)
    assert mode_shares(np.empty((0, 2)), CENTRES).tolist() == [0, 0, 0]


def test_shares_leave_out_what_lies_near_no_centre():
    points = [[0, 0], [0.5, 0], [10, 0], [50, 50]]
    assert mode_shares(points, CENTRES, radius=1).tolist() == [0.5, 0.25, 0]
    assert mode_shares(points, CENTRES).tolist() == [0.5, 0.5, 0]


def test_a_mode_lives_from_its_share_of_its_true_weight_on():
    weights = [0.5, 0.25, 0.25]
    points = [[0, 0]] * 95 + [[10, 0]] * 5
    assert modes_alive(points, CENTRES, weights, radius=1, share=0.2) == 2
    assert modes_alive(points[1:95] + points[96:], CENTRES, weights, radius=1, share=0.2) == 1


def test_weights_need_not_sum_to_one():
    points = [[0, 0]] * 95 + [[10, 0]] * 5
    assert modes_alive(points, CENTRES, [2, 1, 1], radius=1) == modes_alive(
        points, CENTRES, [0.5, 0.25, 0.25], radius=1
    )


def test_a_mode_without_points_is_dead_even_if_its_weight_is_zero():
    assert modes_alive([[0, 0]], CENTRES, [1, 0, 0], radius=1) == 1
    assert modes_alive(np.empty((0, 2)), CENTRES, [1, 1, 1], radius=1) == 0


def test_samples_outside_the_radius_do_not_keep_a_mode_alive():
    assert modes_alive([[3, 0], [10, 3]], CENTRES, [1, 1, 1], radius=1) == 0
    assert modes_alive([[3, 0], [10, 3]], CENTRES, [1, 1, 1], radius=3) == 2


def test_distance_of_weights_is_half_the_absolute_difference():
    assert total_variation([1, 1], [1, 3]) == pytest.approx(0.25)
    assert total_variation([1, 0], [0, 9]) == 1.0
    assert total_variation([2, 6], [1, 3]) == 0.0


@pytest.mark.parametrize(("radius", "share"), [(0, 0.2), (np.nan, 0.2), (1, 0)])
def test_a_radius_or_share_that_says_nothing_is_an_error(radius, share):
    with pytest.raises(ValueError, match=r"(radius|share) must be > 0, got"):
        modes_alive([[0, 0]], CENTRES, [1, 1, 1], radius=radius, share=share)


def test_shapes_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match="shape"):
        assign_modes([[0.0]], CENTRES)
    with pytest.raises(ValueError, match="shape"):
        assign_modes([[0.0, 0.0]], np.empty((0, 2)))
    with pytest.raises(ValueError, match="3 centres and 2 weights"):
        modes_alive([[0, 0]], CENTRES, [1, 1], radius=1)
    with pytest.raises(ValueError, match="2 weights and 1 weights"):
        total_variation([1, 1], [1])


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [1, np.nan], []])
def test_invalid_weights_are_an_error(weights):
    with pytest.raises(ValueError, match="weights must be finite, >= 0 and not all 0"):
        total_variation(weights, weights)
