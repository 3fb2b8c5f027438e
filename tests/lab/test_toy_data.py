"""Arrays as data and as models, and the worlds whose density is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from tailkeep.lab.toy_data import ArrayData, ModesWorld, MoonsWorld, NormalWorld, load_model, mode_tail, save_model
from tailkeep.metrics import modes_alive
from tests.lab.stubs import listed, numbers, real


@given(n=st.integers(1, 40), parts=st.integers(1, 40))
def test_parts_are_consecutive_lose_nothing_and_differ_by_at_most_one(n, parts):
    split = real(n).split(parts)
    assert len(split) == parts
    assert listed(split[0].concat(*split[1:])) == listed(real(n))
    assert max(map(len, split)) - min(map(len, split)) <= 1


def test_examples_are_taken_in_the_order_asked_for():
    assert listed(real(5).take(np.array([3, 0, 3]))) == [3, 0, 3]


def test_one_example_is_one_unit_however_many_chains_it_has():
    assert ArrayData(np.zeros((4, 9))).units == len(ArrayData(np.zeros((4, 9)))) == 4


@pytest.mark.parametrize("values", [np.zeros((0, 3)), np.array([[1e-300, np.inf], [-0.0, np.nan]])])
def test_saved_numbers_come_back_bit_for_bit(tmp_path, values):
    ArrayData(values).save(tmp_path)
    again = numbers().read(tmp_path).values
    assert again.tobytes() == values.tobytes()
    assert again.shape == values.shape


def test_numbers_are_not_read_from_a_pickle(tmp_path):
    np.save(tmp_path / "values.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        numbers().read(tmp_path)


def test_a_saved_model_comes_back_with_its_facts(tmp_path):
    arrays = {"mean": np.array([0.1, -2.0]), "std": np.array([1e-300, 3.0])}
    facts = {"train_units": 100.0, "dropped_share": 0.1}
    save_model(tmp_path, arrays, facts)
    loaded, loaded_facts = load_model(tmp_path)
    assert {name: array.tobytes() for name, array in loaded.items()} == {n: a.tobytes() for n, a in arrays.items()}
    assert loaded_facts == facts


def test_an_array_that_is_not_contiguous_is_saved_as_it_reads(tmp_path):
    whole = np.arange(6.0).reshape(2, 3)
    save_model(tmp_path, {"turned": whole.T, "cut": whole[:, 1]}, {})
    loaded, _ = load_model(tmp_path)
    assert loaded["turned"].tolist() == whole.T.tolist()
    assert loaded["cut"].tolist() == [1.0, 4.0]


def test_a_normal_world_has_its_mean_and_its_width():
    values = NormalWorld(mean=3.0, std=2.0, size=400, chains=100).draw(0).values
    assert values.shape == (400, 100)
    # Standard errors with 40,000 values: 2 / 200 for the mean, 2 / sqrt(80,000) for the standard deviation.
    assert values.mean() == pytest.approx(3.0, abs=5 * 0.01)
    assert values.std() == pytest.approx(2.0, abs=5 * 0.0071)


def test_a_world_is_a_function_of_its_seed():
    world = NormalWorld()
    assert world.draw(1).values.tobytes() == world.draw(1).values.tobytes()
    assert world.draw(1).values.tobytes() != world.draw(2).values.tobytes()


@pytest.mark.parametrize("modes", [2, 3, 8])
def test_neighbours_on_a_ring_are_one_spacing_apart(modes):
    centres = ModesWorld(layout="ring", modes=modes, spacing=1.5).centres
    assert np.linalg.norm(centres - np.roll(centres, 1, axis=0), axis=1) == pytest.approx(1.5)
    assert centres.mean(axis=0) == pytest.approx(0, abs=1e-12)


def test_a_grid_is_centred_and_its_neighbours_are_one_spacing_apart():
    centres = ModesWorld(layout="grid", modes=9, spacing=2.0).centres
    assert sorted(map(tuple, centres.tolist())) == [(x, y) for x in (-2.0, 0.0, 2.0) for y in (-2.0, 0.0, 2.0)]


def test_the_weights_of_modes_fall_by_zipfs_law():
    assert ModesWorld(modes=4, zipf=0.0).weights == pytest.approx([0.25] * 4)
    assert ModesWorld(modes=3, zipf=1.0).weights == pytest.approx([6 / 11, 3 / 11, 2 / 11])


def test_points_lie_around_their_centres_in_the_shares_of_the_weights():
    world = ModesWorld(layout="grid", modes=4, spacing=10.0, std=0.1, zipf=1.0, size=20_000)
    points = world.draw(0).values
    distances = np.linalg.norm(points[:, None] - world.centres, axis=2)
    nearest = distances.argmin(axis=1)
    shares = np.bincount(nearest, minlength=4) / len(points)
    assert shares == pytest.approx(world.weights, abs=5 * np.sqrt(0.25 / 20_000))
    offsets = points - world.centres[nearest]
    assert offsets.std(axis=0) == pytest.approx(0.1, rel=5 / np.sqrt(2 * 20_000))


# The two moons


MOONS = MoonsWorld(name="moons", modes_per_arc=6, std=0.05, size=4000)


def test_points_lie_around_one_of_two_half_circles_of_radius_one():
    points = MOONS.draw(0).values
    upper = np.abs(np.hypot(points[:, 0] + 0.5, points[:, 1] + 0.25) - 1)
    lower = np.abs(np.hypot(points[:, 0] - 0.5, points[:, 1] - 0.25) - 1)
    assert (np.minimum(upper, lower) < 5 * MOONS.std).all()
    assert points.mean(axis=0) == pytest.approx([0, 0], abs=0.05)


def test_every_segment_has_its_share_of_the_points():
    points = MOONS.draw(1).values
    nearest = np.linalg.norm(points[:, None] - MOONS.centres, axis=2)
    shares = np.bincount(nearest.argmin(axis=1), minlength=MOONS.modes) / len(points)
    assert shares == pytest.approx(MOONS.weights, abs=0.03)
    assert (nearest.min(axis=1) <= MOONS.reach).mean() > 0.99


def test_a_draw_of_the_moons_is_a_function_of_its_seed():
    assert MOONS.draw(3).values.tobytes() == MOONS.draw(3).values.tobytes() != MOONS.draw(4).values.tobytes()


def test_the_finely_cut_arcs_are_the_density_of_the_arcs():
    pytest.importorskip("torch")
    from tailkeep.lab.generative.spaces import true_log_density

    points = np.array([[-0.5, 0.75], [0.5, 0.25], [1.4, 0.2], [-1.52, -0.3]])
    log_densities = true_log_density(MOONS, points)

    def along(angle, point):
        arcs = ((np.cos(angle) - 0.5, np.sin(angle) - 0.25), (0.5 - np.cos(angle), 0.25 - np.sin(angle)))
        return sum(np.prod(norm.pdf(point, arc, MOONS.std)) for arc in arcs) / (2 * np.pi)

    for point, log_density in zip(points, log_densities, strict=True):
        expected, _ = quad(along, 0, np.pi, args=(point,), points=np.linspace(0, np.pi, 40)[1:-1], limit=400)
        assert log_density == pytest.approx(np.log(expected), abs=0.02)


def test_the_tail_of_modes_agrees_with_the_number_of_modes_alive():
    world = ModesWorld(name="modes", modes=9, zipf=1.0, size=400)
    points = world.draw(3).values
    points = points[points[:, 0] < 0.5]
    tail = mode_tail(points, world)
    alive = sum(count >= max(1, least) for count, least in zip(tail["counts"], tail["least"], strict=True))
    assert alive == modes_alive(points, world.centres, world.weights, radius=world.reach) < 9
    assert tail["real"] == sorted(tail["real"], reverse=True)
    assert sum(tail["real"]) == pytest.approx(len(points))
