"""Points and images as numbers of about unit size, there and back, and what a perfect or a narrow model measures."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailkeep.lab.generative.config import ImageEvaluation, SpaceArm  # noqa: E402
from tailkeep.lab.generative.images import Images  # noqa: E402
from tailkeep.lab.generative.spaces import (  # noqa: E402
    build_space,
    sample_point_space,
    true_log_density,
)
from tailkeep.lab.toy_data import ArrayData, ModesWorld  # noqa: E402

WORLD = ModesWorld(layout="ring", modes=4, spacing=2.0, std=0.2, zipf=1.0, size=300)


@pytest.fixture(scope="module")
def points():
    return sample_point_space(WORLD, seed=0)


@pytest.fixture(scope="module")
def images():
    pytest.importorskip("sklearn")
    evaluation = ImageEvaluation(classifier_steps=100)
    config = SpaceArm(data={"name": "digits", "held_out": 1600}, evaluation=evaluation)
    return build_space(config, seed=0, device="cpu", shared={})


def test_points_are_centred_on_the_real_ones_and_come_back(points):
    encoded = points.encode(points.real)
    assert encoded.dtype == torch.float32
    assert encoded.mean(dim=0).numpy() == pytest.approx([0, 0], abs=1e-6)
    assert float(encoded.square().mean()) == pytest.approx(1, rel=1e-5)
    assert points.decode(encoded).values == pytest.approx(points.real.values, abs=1e-5)


def test_images_come_back_byte_by_byte_and_greys_beyond_the_ends_are_cut(images):
    assert images.dimension == 64
    encoded = images.encode(images.real)
    assert (encoded.min(), encoded.max()) == (-1, 1)
    assert bytes(images.decode(encoded).values) == bytes(images.real.values)
    assert images.decode(torch.tensor([[-7.0, 7.0] * 32])).values.ravel().tolist() == [0, 255] * 32


def test_other_points_of_the_same_world_measure_as_perfect_samples(points):
    metrics = points.measure(WORLD.draw(5)).metrics
    assert metrics["modes_alive"] == metrics["modes_total"] == 4
    assert min(metrics["precision"], metrics["recall"], metrics["coverage"]) > 0.9
    assert metrics["sliced_wasserstein"] < 0.2


def test_points_of_one_mode_are_precise_and_cover_that_mode(points):
    narrow = ArrayData(WORLD.centres[0] + np.random.default_rng(0).normal(0, WORLD.std, (300, 2)))
    metrics = points.measure(narrow).metrics
    assert metrics["modes_alive"] == 1
    assert metrics["precision"] > 0.9
    assert metrics["recall"] < 0.7
    assert metrics["coverage"] < 0.7
    assert metrics["weight_distance"] == pytest.approx(1 - WORLD.weights[0])


def test_held_out_points_are_ten_times_as_many_and_others(points):
    assert len(points.held_out) == 3000
    assert len(points.reference) == points.num_samples == 300
    assert not np.isin(points.held_out.values, points.real.values).any()


def test_the_tail_of_classes_agrees_with_the_number_of_classes_alive(images):
    one = images.measure(Images(np.repeat(images.real.values[:1], 200, axis=0)))
    for measured in (images.measure(images.held_out), one):
        tail = measured.tables["tail"]
        alive = sum(count >= least for count, least in zip(tail["counts"], tail["least"], strict=True))
        assert alive == measured.metrics["classes_alive"]
        assert tail["real"] == sorted(tail["real"], reverse=True)
    assert sum(one.tables["tail"]["counts"]) == 200


def test_the_true_density_exceeds_itself_by_nothing_and_a_wider_one_by_its_divergence(points):
    truth = true_log_density(WORLD, points.reference.values)
    assert points.kl_divergence(truth) == 0
    assert points.kl_divergence(truth - 0.5) == pytest.approx(0.5)


def test_held_out_images_are_perfect_samples_and_one_image_covers_next_to_nothing(images):
    perfect = images.measure(images.held_out).metrics
    assert perfect["frechet"] == pytest.approx(0, abs=1e-6)
    assert perfect["precision"] == perfect["recall"] == perfect["coverage"] == 1
    one = images.measure(Images(np.repeat(images.real.values[:1], 200, axis=0))).metrics
    assert one["recall"] == 0
    assert one["coverage"] < 0.1
    assert one["classes_alive"] == 1


def test_arms_share_images_and_their_classifier():
    pytest.importorskip("sklearn")
    shared = {}
    config = SpaceArm(data={"name": "digits", "held_out": 1700}, evaluation={"classifier_steps": 2})
    first, second = (build_space(config, seed=seed, device="cpu", shared=shared) for seed in (0, 1))
    assert first.real is second.real
    assert first.classifier() is second.classifier()


def test_a_classifiers_training_has_no_effect_on_points_and_is_refused():
    with pytest.raises(ValueError, match="evaluation has no effect on points"):
        SpaceArm(evaluation={"classifier_steps": 5})
