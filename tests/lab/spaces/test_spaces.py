"""Points and images as numbers of about unit size, there and back, and what a perfect or a narrow model measures."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailkeep.lab.generative.config import ImageEvaluation, SpaceArm  # noqa: E402
from tailkeep.lab.generative.images import Pictures  # noqa: E402
from tailkeep.lab.generative.spaces import (  # noqa: E402
    build_space,
    draw_plane,
    true_log_density,
)
from tailkeep.lab.toy_data import ModesWorld, Numbers  # noqa: E402

WORLD = ModesWorld(layout="ring", modes=4, spacing=2.0, std=0.2, zipf=1.0, size=300)


@pytest.fixture(scope="module")
def plane():
    return draw_plane(WORLD, seed=0)


@pytest.fixture(scope="module")
def gallery():
    pytest.importorskip("sklearn")
    measuring = ImageEvaluation(classifier_steps=100)
    study = SpaceArm(data={"name": "digits", "held_out": 1600}, evaluation=measuring)
    return build_space(study, seed=0, device="cpu", shared={})


def test_points_are_centred_on_the_real_ones_and_come_back(plane):
    encoded = plane.encode(plane.real)
    assert encoded.dtype == torch.float32
    assert encoded.mean(dim=0).numpy() == pytest.approx([0, 0], abs=1e-6)
    assert float(encoded.square().mean()) == pytest.approx(1, rel=1e-5)
    assert plane.decode(encoded).values == pytest.approx(plane.real.values, abs=1e-5)


def test_images_come_back_byte_by_byte_and_greys_beyond_the_ends_are_cut(gallery):
    assert gallery.dimension == 64
    encoded = gallery.encode(gallery.real)
    assert (encoded.min(), encoded.max()) == (-1, 1)
    assert bytes(gallery.decode(encoded).values) == bytes(gallery.real.values)
    assert gallery.decode(torch.tensor([[-7.0, 7.0] * 32])).values.ravel().tolist() == [0, 255] * 32


def test_other_points_of_the_same_world_measure_as_perfect_samples(plane):
    found = plane.measure(WORLD.draw(5)).metrics
    assert found["modes_alive"] == found["modes_total"] == 4
    assert min(found["precision"], found["recall"], found["coverage"]) > 0.9
    assert found["sliced_wasserstein"] < 0.2


def test_points_of_one_mode_are_precise_and_cover_that_mode(plane):
    narrow = Numbers(WORLD.centres[0] + np.random.default_rng(0).normal(0, WORLD.std, (300, 2)))
    found = plane.measure(narrow).metrics
    assert found["modes_alive"] == 1
    assert found["precision"] > 0.9
    assert found["recall"] < 0.7
    assert found["coverage"] < 0.7
    assert found["weight_distance"] == pytest.approx(1 - WORLD.weights[0])


def test_held_out_points_are_ten_times_as_many_and_others(plane):
    assert len(plane.held_out) == 3000
    assert len(plane.near) == plane.draws == 300
    assert not np.isin(plane.held_out.values, plane.real.values).any()


def test_the_true_density_exceeds_itself_by_nothing_and_a_wider_one_by_its_divergence(plane):
    truth = true_log_density(WORLD, plane.near.values)
    assert plane.excess(truth) == 0
    assert plane.excess(truth - 0.5) == pytest.approx(0.5)


def test_held_out_images_are_perfect_samples_and_one_image_covers_next_to_nothing(gallery):
    perfect = gallery.measure(gallery.held_out).metrics
    assert perfect["frechet"] == pytest.approx(0, abs=1e-6)
    assert perfect["precision"] == perfect["recall"] == perfect["coverage"] == 1
    one = gallery.measure(Pictures(np.repeat(gallery.real.values[:1], 200, axis=0))).metrics
    assert one["recall"] == 0
    assert one["coverage"] < 0.1
    assert one["classes_alive"] == 1


def test_arms_share_images_and_their_classifier():
    pytest.importorskip("sklearn")
    shared = {}
    study = SpaceArm(data={"name": "digits", "held_out": 1700}, evaluation={"classifier_steps": 2})
    first, second = (build_space(study, seed=seed, device="cpu", shared=shared) for seed in (0, 1))
    assert first.real is second.real
    assert first.classifier() is second.classifier()


def test_a_classifiers_training_has_no_effect_on_points_and_is_refused():
    with pytest.raises(ValueError, match="evaluation has no effect on points"):
        SpaceArm(evaluation={"classifier_steps": 5})
