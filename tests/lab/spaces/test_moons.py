"""The two moons: where their points lie, and that pieces of arcs are modes."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from tailkeep.lab.toy_data import MoonsWorld

WORLD = MoonsWorld(name="moons", pieces=6, std=0.05, size=4000)


def test_points_lie_around_one_of_two_half_circles_of_radius_one():
    points = WORLD.draw(0).values
    upper = np.abs(np.hypot(points[:, 0] + 0.5, points[:, 1] + 0.25) - 1)
    lower = np.abs(np.hypot(points[:, 0] - 0.5, points[:, 1] - 0.25) - 1)
    assert (np.minimum(upper, lower) < 5 * WORLD.std).all()
    assert points.mean(axis=0) == pytest.approx([0, 0], abs=0.05)


def test_every_piece_has_its_share_of_the_points():
    points = WORLD.draw(1).values
    nearest = np.linalg.norm(points[:, None] - WORLD.centres, axis=2)
    shares = np.bincount(nearest.argmin(axis=1), minlength=WORLD.modes) / len(points)
    assert shares == pytest.approx(WORLD.weights, abs=0.03)
    assert (nearest.min(axis=1) <= WORLD.reach).mean() > 0.99


def test_a_draw_is_a_function_of_its_seed():
    assert WORLD.draw(3).values.tobytes() == WORLD.draw(3).values.tobytes() != WORLD.draw(4).values.tobytes()


def test_the_finely_cut_arcs_are_the_density_of_the_arcs():
    pytest.importorskip("torch")
    from tailkeep.lab.generative.spaces import true_log_density

    places = np.array([[-0.5, 0.75], [0.5, 0.25], [1.4, 0.2], [-1.52, -0.3]])
    found = true_log_density(WORLD, places)

    def along(angle, place):
        arcs = ((np.cos(angle) - 0.5, np.sin(angle) - 0.25), (0.5 - np.cos(angle), 0.25 - np.sin(angle)))
        return sum(np.prod(norm.pdf(place, arc, WORLD.std)) for arc in arcs) / (2 * np.pi)

    for place, log_density in zip(places, found, strict=True):
        expected, _ = quad(along, 0, np.pi, args=(place,), points=np.linspace(0, np.pi, 40)[1:-1], limit=400)
        assert log_density == pytest.approx(np.log(expected), abs=0.02)
