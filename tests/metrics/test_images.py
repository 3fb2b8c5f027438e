"""Fréchet distance, precision and recall against closed forms and scipy."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from tailkeep.metrics import frechet_distance, manifold_coverage, precision_recall


def test_a_set_has_no_distance_to_itself_and_a_shifted_one_the_squared_shift():
    points = np.random.default_rng(0).normal(size=(50, 4))
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(points + np.array([3, 0, 4, 0]), points) == pytest.approx(25)


def test_the_distance_of_scaled_sets_is_the_sum_of_squared_differences_of_deviations():
    points = np.random.default_rng(1).normal(size=(40, 3))
    scale = np.array([2.0, 0.5, 1.0])
    whitened = (points - points.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(points.T, bias=True))).T
    assert frechet_distance(whitened * scale, whitened) == pytest.approx(((scale - 1) ** 2).sum())


def test_the_distance_is_the_textbook_formula_with_scipys_matrix_root():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)), rng.normal(1, 2, size=(80, 5))
    first, second = np.cov(a.T, bias=True), np.cov(b.T, bias=True)
    shift = a.mean(axis=0) - b.mean(axis=0)
    expected = shift @ shift + np.trace(first + second - 2 * np.real(sqrtm(first @ second)))
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(b, a) == pytest.approx(expected)


def test_a_set_collapsed_to_a_point_is_as_far_as_its_shift_and_the_others_variance():
    points = np.random.default_rng(3).normal(size=(30, 6))
    collapsed = np.zeros((10, 6))
    expected = (points.mean(axis=0) ** 2).sum() + points.var(axis=0).sum()
    assert frechet_distance(collapsed, points) == pytest.approx(expected)


def test_equal_sets_have_precision_and_recall_of_one_and_distant_ones_of_zero():
    points = np.random.default_rng(4).normal(size=(30, 2))
    assert precision_recall(points, points) == (1.0, 1.0)
    assert precision_recall(points, points + 1000) == (0.0, 0.0)


def test_a_model_of_one_mode_of_two_is_precise_and_recalls_half():
    mode = np.linspace(0, 1, 20)[:, None]
    real = np.concatenate([mode, mode + 100])
    assert precision_recall(real, np.concatenate([mode, mode + 1e-9])) == (1.0, 0.5)
    assert precision_recall(mode, real) == (0.5, 1.0)


def test_a_ball_reaches_to_the_kth_nearest_other_point_and_includes_its_edge():
    real = np.array([[0.0], [1.0], [3.0], [7.0]])
    # Radii of the second nearest other: 3, 2, 3, 6.
    generated = np.array([[-3.0], [-3.1], [13.0], [13.1]])
    assert precision_recall(real, generated, neighbours=2)[0] == 0.5


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (np.zeros((5, 2)), np.zeros((5, 3)), "shapes"),
        (np.zeros(5), np.zeros((5, 3)), "shapes"),
        (np.zeros((1, 2)), np.zeros((5, 2)), "at least"),
        (np.full((5, 2), np.nan), np.zeros((5, 2)), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_an_error(one, other, words):
    for measure in (frechet_distance, precision_recall):
        with pytest.raises(ValueError, match=words):
            measure(one, other)


def test_no_neighbours_are_an_error():
    with pytest.raises(ValueError, match="neighbours must be >= 1, got 0"):
        precision_recall(np.zeros((5, 1)), np.zeros((5, 1)), neighbours=0)


def test_a_real_point_is_covered_by_a_generated_one_that_is_no_farther_than_its_kth_neighbour():
    real = np.array([[0.0], [1.0], [3.0], [7.0]])
    # Radii of the second nearest other: 3, 2, 3, 6.
    assert manifold_coverage(real, np.array([[-2.0], *[[90.0]] * 2]), neighbours=2) == 0.25
    assert manifold_coverage(real, np.array([[1.0], *[[90.0]] * 2]), neighbours=2) == 1.0


def test_coverage_is_one_of_the_same_and_zero_of_distant_points():
    points = np.random.default_rng(4).normal(size=(30, 2))
    assert manifold_coverage(points, points) == 1
    assert manifold_coverage(points, points + 1000) == 0


def test_stray_points_that_recall_takes_for_a_wide_manifold_cover_little():
    rng = np.random.default_rng(5)
    real, stray = rng.normal(size=(200, 2)), 30 * rng.normal(size=(200, 2))
    assert precision_recall(real, stray)[1] > 0.5
    assert manifold_coverage(real, stray) < 0.1


def test_a_coverage_of_no_neighbours_or_too_few_points_is_an_error():
    with pytest.raises(ValueError, match="neighbours must be >= 1, got 0"):
        manifold_coverage(np.zeros((9, 2)), np.zeros((9, 2)), neighbours=0)
    with pytest.raises(ValueError, match="at least 6"):
        manifold_coverage(np.zeros((5, 2)), np.zeros((9, 2)))
