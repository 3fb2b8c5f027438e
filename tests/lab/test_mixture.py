"""The Gaussian mixture against scikit-learn's own numbers and against worlds that are easy to fit."""

import numpy as np
import pytest
from scipy.stats import norm

from tailkeep import lab
from tailkeep.errors import ConfigError, InputError
from tailkeep.lab.loop import phase_seed
from tailkeep.lab.mixture import Mixture, MixtureArm, MixtureLearner, build
from tailkeep.lab.toy_data import ArrayData, ModesWorld
from tests.runs.faults import FaultyStorage

sklearn_mixture = pytest.importorskip("sklearn.mixture")

CLEAN = ModesWorld(layout="grid", modes=4, spacing=10.0, std=0.5, zipf=1.0, size=2000)


def fit(data, *, components=4, drop=0.0, seed=0):
    return MixtureLearner(components, drop, 100).fit(data, seed=seed, budget=len(data))


@pytest.fixture(scope="module")
def model():
    return fit(CLEAN.draw(0))


def test_em_recovers_a_clean_mixture(model):
    nearest = np.linalg.norm(model.means[:, None] - CLEAN.centres, axis=2).argmin(axis=0)
    assert sorted(nearest) == [0, 1, 2, 3]
    rarest = CLEAN.weights.min() * CLEAN.size
    assert model.means[nearest] == pytest.approx(CLEAN.centres, abs=5 * 0.5 / np.sqrt(rarest))
    assert model.weights[nearest] == pytest.approx(CLEAN.weights, abs=5 * np.sqrt(0.25 / CLEAN.size))
    assert model.covariances[nearest] == pytest.approx(
        np.broadcast_to(0.25 * np.eye(2), (4, 2, 2)), abs=5 * 0.25 * np.sqrt(2 / rarest)
    )


def test_the_log_density_is_scikit_learns():
    points = CLEAN.draw(1).values
    em = sklearn_mixture.GaussianMixture(5, random_state=3).fit(points)
    model = Mixture(em.weights_, em.means_, em.covariances_)
    grid = np.random.default_rng(0).uniform(-20, 20, (200, 2))
    assert model.log_density(grid) == pytest.approx(em.score_samples(grid), rel=1e-9)


def test_the_log_density_of_one_component_is_the_normal_one():
    covariance = np.array([[2.0, 0.6], [0.6, 1.0]])
    model = Mixture(np.ones(1), np.array([[1.0, -1.0]]), covariance[None])
    point = np.array([[0.5, 2.0]])
    offset = point[0] - model.means[0]
    expected = -0.5 * offset @ np.linalg.inv(covariance) @ offset - np.log(
        2 * np.pi * np.sqrt(np.linalg.det(covariance))
    )
    assert model.log_density(point)[0] == pytest.approx(expected)


def test_a_component_of_no_weight_adds_nothing():
    both = Mixture(np.array([1.0, 0.0]), np.zeros((2, 2)), np.broadcast_to(np.eye(2), (2, 2, 2)))
    one = Mixture(np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
    points = np.array([[0.0, 0.0], [1.0, 2.0]])
    assert both.log_density(points) == pytest.approx(one.log_density(points))


@pytest.mark.parametrize(("drop", "dropped"), [(0.0, 0), (0.001, 0), (0.1, 12), (0.29, 36), (0.5, 62)])
def test_truncation_leaves_out_exactly_the_share_that_is_most_likely(drop, dropped, monkeypatch):
    data = ModesWorld(modes=4, spacing=5.0, size=123).draw(0)
    fitted = []
    em = MixtureLearner._em
    monkeypatch.setattr(
        MixtureLearner, "_em", lambda self, points, seed: fitted.append(points) or em(self, points, seed)
    )
    model = fit(data, drop=drop)
    first, remaining = em(MixtureLearner(4, drop, 100), data.values, 0), fitted[-1]
    assert dropped == round(drop * 123)
    assert len(remaining) == 123 - dropped
    assert model.facts["dropped_share"] == pytest.approx(dropped / 123)
    dropped_points = sorted({*map(tuple, data.values)} - {*map(tuple, remaining)})
    assert len(dropped_points) == dropped
    if dropped_points:
        assert first.log_density(np.array(dropped_points)).min() >= first.log_density(remaining).max()


@pytest.mark.parametrize(("points", "components", "drop"), [(3, 4, 0.0), (5, 4, 0.5), (1, 1, 0.0), (2, 1, 0.5)])
def test_too_few_points_are_one_clear_error(points, components, drop):
    with pytest.raises(
        InputError,
        match=rf"^{components} components need .*, got \d+ of {points} after drop.*data\.size",
    ):
        fit(ArrayData(np.arange(2.0 * points).reshape(points, 2)), components=components, drop=drop)


def test_an_arm_of_too_few_points_is_an_error_before_a_folder_is_made(tmp_path):
    tree = {"learner": "mixture", "components": 9, "drop": 0.5, "data": {"size": 16}}
    with pytest.raises(InputError, match="9 components need at least 9 points, got 8 of 16 after drop"):
        lab.run(tree, tmp_path / "run", storage=FaultyStorage())
    assert not (tmp_path / "run").exists()


def test_a_world_with_fewer_places_than_components_neither_warns_nor_dies():
    data = ArrayData(np.repeat([[0.0, 0.0], [1.0, 1.0]], 10, axis=0))
    model = fit(data, components=4)
    assert np.isfinite(model.log_density(data.values)).all()
    assert len(model.sample(30, seed=0)) == 30


def test_samples_have_the_moments_of_the_mixture():
    weights, means = np.array([0.7, 0.3]), np.array([[0.0, 0.0], [6.0, -2.0]])
    covariances = np.array([[[1.0, 0.5], [0.5, 2.0]], [[0.3, 0.0], [0.0, 0.1]]])
    points = Mixture(weights, means, covariances).sample(40_000, seed=0).values
    mean = weights @ means
    covariance = np.einsum("k,kij->ij", weights, covariances) + np.einsum(
        "k,ki,kj->ij", weights, means - mean, means - mean
    )
    assert points.mean(axis=0) == pytest.approx(mean, abs=5 * 3 / 200)
    assert np.cov(points.T) == pytest.approx(covariance, abs=0.25)


def test_weights_that_sum_to_one_but_for_rounding_can_be_sampled():
    weights = np.array([0.1] * 10) * (1 + 1e-7)
    model = Mixture(weights, np.zeros((10, 2)), np.broadcast_to(np.eye(2), (10, 2, 2)))
    assert len(model.sample(5, seed=0)) == 5


def test_a_saved_model_writes_the_same_samples(model, tmp_path):
    model.save(tmp_path)
    again = MixtureLearner(4, 0.0, 100).load(tmp_path)
    assert again.sample(9, seed=1).values.tobytes() == model.sample(9, seed=1).values.tobytes()
    assert again.facts == model.facts


def test_a_fit_is_a_function_of_its_seed():
    data = ModesWorld(size=300).draw(0)
    first, second = (fit(data, components=10, seed=5) for _ in range(2))
    assert first.means.tobytes() == second.means.tobytes()
    assert first.means.tobytes() != fit(data, components=10, seed=6).means.tobytes()


def test_a_rewriting_has_as_many_points_as_what_it_rewrites(model):
    assert len(model.regenerate(CLEAN.draw(2), seed=0)) == CLEAN.size


def test_the_true_mixture_keeps_all_its_modes_and_the_entropy_of_the_world(model):
    config = MixtureArm(learner="mixture", data=CLEAN, components=4)
    experiment = build(config, seed=0)
    truth = Mixture(CLEAN.weights, CLEAN.centres, np.broadcast_to(0.25 * np.eye(2), (4, 2, 2)))
    measured = experiment.measure(truth, {"common": experiment.views["common"](truth, 3)}).metrics
    assert measured["modes_alive"] == measured["modes_total"] == 4
    assert measured["weight_distance"] < 5 * np.sqrt(0.25 / CLEAN.size) * 2
    # Far apart modes: the entropy is that of the weights and of one normal mode.
    entropy = -(CLEAN.weights * np.log(CLEAN.weights)).sum() + np.log(2 * np.pi * np.e * 0.25)
    assert measured["held_out_nll"] == pytest.approx(entropy, abs=5 * 1.2 / np.sqrt(CLEAN.size))


def test_held_out_points_are_no_training_points():
    experiment = build(MixtureArm(learner="mixture", data=CLEAN, components=4), seed=0)
    # A model with one narrow component on every training point would know its own points, and no others.
    points = experiment.real.values
    spikes = Mixture(
        np.full(len(points), 1 / len(points)), points, np.broadcast_to(1e-8 * np.eye(2), (len(points), 2, 2))
    )
    measured = experiment.measure(spikes, {"common": experiment.real}).metrics
    assert measured["held_out_nll"] > 100


def test_a_mode_that_no_sample_reaches_is_dead():
    experiment = build(MixtureArm(learner="mixture", data=CLEAN, components=4), seed=0)
    lost = Mixture(np.ones(1), CLEAN.centres[:1], 0.25 * np.eye(2)[None])
    measured = experiment.measure(lost, {"common": lost.sample(500, seed=0)}).metrics
    assert measured["modes_alive"] == 1
    assert measured["weight_distance"] == pytest.approx(1 - CLEAN.weights[0])


def test_the_density_along_the_first_axis_is_the_mixtures():
    experiment = build(MixtureArm(learner="mixture", data=CLEAN, components=4), seed=0)
    model = Mixture(np.array([0.25, 0.75]), np.array([[0.0, 9.0], [3.0, 1.0]]), np.diag([4.0, 1.0])[None].repeat(2, 0))
    table = experiment.measure(model, {"common": experiment.real}).tables["density"]
    x = np.array(table["x"])
    expected = 0.25 * norm.pdf(x, 0, 2) + 0.75 * norm.pdf(x, 3, 2)
    assert table["model"] == pytest.approx(expected.tolist())
    assert np.trapezoid(table["real"], x) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("seed", [0, 3])
def test_held_out_points_share_no_seed_with_anything_that_a_chain_draws(seed, monkeypatch):
    seeds = []
    draw = ModesWorld.draw
    monkeypatch.setattr(ModesWorld, "draw", lambda self, seed: seeds.append(seed) or draw(self, seed))
    build(MixtureArm(learner="mixture", data=CLEAN, components=4), seed=seed)
    phases = ("generate", "train", "sample", "measure", "mix")
    used = {phase_seed(seed, generation, phase) for generation in range(50) for phase in phases}
    assert len(set(seeds)) == 2
    assert not used & set(seeds)


def test_one_truncated_generation_after_another(tmp_path):
    config = {"learner": "mixture", "generations": 2, "components": 4, "drop": 0.2, "data": {"modes": 4, "size": 80}}
    run = lab.run(config, tmp_path, storage=FaultyStorage())
    assert run.generation_dir("baseline", 0, 1).metrics()["metrics"]["dropped_share"] == pytest.approx(0.2)


@pytest.mark.parametrize(("key", "value"), [("components", 0), ("drop", 1.0), ("drop", -0.1), ("data.modes", 0)])
def test_no_components_and_truncating_everything_are_refused(key, value):
    with pytest.raises(ConfigError, match=key):
        lab.load({"learner": "mixture"}, overrides=[f"{key}={value}"])
