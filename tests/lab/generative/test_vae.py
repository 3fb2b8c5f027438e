"""The autoencoder: its size, its bound, what it learns, and that it is a function of its seed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailkeep.errors import ConfigError, InputError, TrainingError  # noqa: E402
from tailkeep.lab.generative.images import Images  # noqa: E402
from tailkeep.lab.generative.training import batch_indices  # noqa: E402
from tailkeep.lab.generative.vae import (  # noqa: E402
    Autoencoder,
    bound_terms,
    build,
)
from tailkeep.lab.loop import phase_seed  # noqa: E402
from tests.lab.generative.small_vae import bars, learner, vae_config  # noqa: E402

TRAINED = {"network": {"channels": 8, "latent": 4}, "training": {"batch": 32, "epochs": 30, "learning_rate": 5e-3}}


@pytest.fixture(scope="module")
def model():
    return learner(**TRAINED).fit(bars(128), seed=0, budget=128)


def test_the_published_network_has_the_published_number_of_parameters():
    network = Autoencoder((28, 28), channels=64, latent=20)
    assert sum(parameter.numel() for parameter in network.parameters()) == 647_081


def test_the_bound_is_binary_cross_entropy_and_the_divergence_of_a_normal_code():
    network = Autoencoder((8, 8), channels=2, latent=3).double()
    images = torch.rand(5, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        network.log_variance.weight.zero_()
        network.log_variance.bias.fill_(-60.0)  # a code without noise
        pixels, divergence = bound_terms(network, images, torch.Generator())
        mean, log_variance = network.encode(images)
        white = network.decode(mean).sigmoid()
    expected = -(images * white.log() + (1 - images) * (1 - white).log()).flatten(1)
    assert torch.allclose(pixels, expected)
    code = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    assert torch.allclose(divergence, torch.distributions.kl_divergence(code, standard).sum(1))


def test_training_brings_the_bound_of_unseen_images_down(model):
    untrained = learner(**{**TRAINED, "training": {"epochs": 1e-9}}).fit(bars(128), seed=0, budget=1)
    unseen = bars(64, seed=1)
    assert untrained.facts["train_steps"] == 1
    # Untrained pixels are grey: ln 2 each, but for one step. A trained model knows that seven of eight are black.
    assert untrained.bound(unseen, seed=0) == pytest.approx(64 * np.log(2), rel=0.2)
    assert model.bound(unseen, seed=0) < 64 * np.log(2) / 2
    assert model.facts["train_units"] == 30 * 128


def test_a_fit_is_a_function_of_its_seed_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    first, second, other = (learner().fit(bars(64), seed=seed, budget=64) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert bytes(first.sample(9, seed=0).values) == bytes(second.sample(9, seed=0).values)
    assert bytes(first.sample(9, seed=0).values) != bytes(other.sample(9, seed=0).values)
    assert bytes(first.sample(9, seed=0).values) != bytes(first.sample(9, seed=1).values)


def test_a_generation_starts_anew_whatever_its_predecessor(model):
    fits = [learner().fit(bars(64), seed=5, budget=64, previous=previous) for previous in (None, model)]
    assert bytes(fits[0].sample(9, seed=0).values) == bytes(fits[1].sample(9, seed=0).values)


def test_a_larger_training_set_is_trained_on_for_as_many_steps():
    fits = [learner().fit(data, seed=0, budget=64) for data in (bars(64), bars(192))]
    assert fits[0].facts["train_units"] == fits[1].facts["train_units"] == 64


def test_a_saved_model_draws_the_same_images(model, tmp_path):
    model.save(tmp_path)
    again = learner(**TRAINED).load(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert bytes(again.sample(7, seed=3).values) == bytes(model.sample(7, seed=3).values)
    assert again.facts == model.facts


def test_a_rewritten_image_is_nearer_to_its_original_than_to_another(model):
    data = bars(64, seed=2)
    rewritten = model.regenerate(data, seed=0).values.astype(float)
    distance = np.abs(rewritten - data.values).mean()
    others = np.abs(rewritten - np.roll(data.values, 1, axis=0)).mean()
    assert distance < 0.8 * others


def test_a_drawn_image_is_the_decoders_probability_of_white(model):
    codes = torch.randn(6, 4, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        white = model.network.decode(codes).sigmoid().numpy()
    assert np.abs(model.sample(6, seed=8).values / 255 - white).max() <= 0.5 / 255 + 1e-6


def test_every_image_is_in_one_batch_of_each_pass():
    indices = np.concatenate(list(batch_indices(10, batch=4, steps=5, seed=0)))
    assert sorted(indices[:10]) == sorted(indices[10:]) == list(range(10))
    assert indices[:10].tolist() != indices[10:].tolist()


# One truncated generation of each kind


@pytest.mark.parametrize(
    "truncate",
    [
        {"name": "pixels", "threshold": 0.9},
        {"name": "pixels", "threshold": 0.9, "control": "random"},
        {"name": "samples", "share": 0.25},
        {"name": "samples", "share": 0.25, "control": "random"},
    ],
    ids=str,
)
def test_a_truncated_generation_keeps_a_part_and_is_another_model(truncate, model):
    cut = learner(**TRAINED, truncate=truncate).fit(bars(128), seed=0, budget=128)
    assert 0 < cut.facts["kept_fraction"] < 1
    if truncate["name"] == "samples":
        assert cut.facts["kept_fraction"] == 0.75
    assert model.facts["kept_fraction"] == 1
    assert bytes(cut.sample(9, seed=0).values) != bytes(model.sample(9, seed=0).values)


def test_truncation_of_every_pixel_is_one_clear_error():
    with pytest.raises(TrainingError, match=r"truncate\.threshold 0\.001 left out every pixel.*a higher one"):
        learner(truncate={"name": "pixels", "threshold": 0.001}).fit(bars(64), seed=0, budget=64)


def test_truncation_of_every_image_is_refused_before_anything_is_trained():
    pytest.importorskip("sklearn")
    with pytest.raises(ConfigError, match=r"some of 16 examples and keep some, got 0\.99, which leaves out 16\."):
        build(vae_config(truncate={"name": "samples", "share": 0.99}), seed=0, device="cpu", shared={})


def test_a_loss_that_is_not_finite_is_one_clear_error():
    with pytest.raises(TrainingError, match="no longer finite at learning_rate 1e\\+20"):
        learner(training={"batch": 16, "epochs": 4, "learning_rate": 1e20}).fit(bars(64), seed=0, budget=64)


def test_a_gpu_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match=r"cuda needs a GPU, but torch sees none\. Use device=auto"):
        build(vae_config(), seed=0, device="cuda", shared={})


def test_too_few_images_are_refused():
    pytest.importorskip("sklearn")
    with pytest.raises((InputError, ValueError), match="held_out"):
        build(vae_config(data={"name": "digits", "held_out": 1797}), seed=0, device="cpu", shared={})


# Yardsticks


@pytest.fixture(scope="module")
def measured():
    """An experiment of the small digits, what it shares, and the measure of its own plain generation 0."""
    pytest.importorskip("sklearn")
    shared = {}
    experiment = build(vae_config(), seed=0, device="cpu", shared=shared)
    first = experiment.learner.fit(experiment.real, seed=phase_seed(0, 0, "train"), budget=len(experiment.real))
    samples = experiment.views["common"](first, 1)
    return experiment, shared, first, experiment.measure(first, {"common": samples}).metrics


def test_the_yardsticks_are_trained_when_first_used_and_shared_by_arms(measured):
    experiment, shared, *_ = measured
    names = {key.partition(" ")[0] for key in shared}
    assert names == {"images", "encoder", "classifier"}
    other = build(vae_config(truncate={"name": "pixels"}), seed=0, device="cpu", shared=shared)
    assert other.measure.encoder() is experiment.measure.encoder()
    assert other.measure.space.classifier() is experiment.measure.space.classifier()
    fresh = {}
    build(vae_config(), seed=1, device="cpu", shared=fresh)
    assert {key.partition(" ")[0] for key in fresh} == {"images"}
    third = build(vae_config(), seed=1, device="cpu", shared=shared)
    assert third.measure.space.classifier() is experiment.measure.space.classifier()
    assert third.measure.encoder() is not experiment.measure.encoder()


def test_the_yardsticks_encoder_is_the_plain_arms_generation_0(measured):
    experiment, _, first, _ = measured
    reference = experiment.measure.encoder()
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(reference.network.state_dict()[name], tensor), name


def test_held_out_images_themselves_are_perfect_samples(measured):
    experiment, _, first, _ = measured
    metrics = experiment.measure(first, {"common": experiment.measure.space.held_out}).metrics
    assert metrics["frechet"] == pytest.approx(0, abs=1e-6)
    assert metrics["precision"] == metrics["recall"] == 1
    assert metrics["latent_std"] == metrics["latent_std_real"]
    assert metrics["classes_alive"] == metrics["classes_total"] == 10
    assert metrics["classifier_accuracy"] > 0.6  # 97 images to learn from


def test_one_image_drawn_again_and_again_recalls_nothing(measured):
    experiment, _, first, _ = measured
    one = Images(np.repeat(experiment.real.values[:1], 200, axis=0))
    metrics = experiment.measure(first, {"common": one}).metrics
    assert metrics["recall"] == 0
    assert metrics["classes_alive"] == 1
    assert metrics["class_entropy"] == 0
