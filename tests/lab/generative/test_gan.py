"""The GAN: its losses, what it learns, and what truncation leaves out."""

import pytest

torch = pytest.importorskip("torch")

from tailkeep.errors import ConfigError  # noqa: E402
from tailkeep.lab.generative import gan  # noqa: E402
from tailkeep.lab.generative.config import GANArm  # noqa: E402
from tailkeep.lab.generative.gan import Discriminator, build, build_learner, discriminator_loss, generator_loss  # noqa: E402
from tailkeep.lab.generative.spaces import sample_point_space  # noqa: E402
from tailkeep.lab.toy_data import ModesWorld  # noqa: E402

WORLD = {"name": "modes", "layout": "ring", "modes": 3, "spacing": 3.0, "std": 0.3, "size": 200}
SPACE = sample_point_space(ModesWorld(**WORLD), seed=0)
SMALL = {"learner": "gan", "data": WORLD, "network": {"width": 32, "layers": 2}, "training": {"batch": 50, "epochs": 1}}
TRAINED = {"training": {"batch": 50, "epochs": 120, "learning_rate": 4e-3}}


def config(**keys):
    return GANArm(**{**SMALL, **keys})


def learner(**keys):
    return build_learner(config(**keys), SPACE, "cpu")


def fit(**keys):
    return learner(**keys).fit(SPACE.real, seed=0, budget=200)


@pytest.fixture(scope="module")
def model():
    return fit(**TRAINED)


def test_the_losses_are_the_cross_entropies_of_true_and_drawn_and_the_slope_is_the_gradient():
    torch.manual_seed(0)
    discriminator = Discriminator(2, width=8, layers=2).double()
    examples = torch.randn(6, 2, dtype=torch.float64)
    chance = discriminator(examples).sigmoid()
    real, slope = discriminator_loss(discriminator, examples, generated=False)
    generated, _ = discriminator_loss(discriminator, examples, generated=True)
    assert torch.allclose(real, -chance.log())
    assert torch.allclose(generated, -(1 - chance).log())
    assert torch.allclose(generator_loss(discriminator, examples), -chance.log())
    step = 1e-6 * torch.eye(2, dtype=torch.float64)
    numeric = torch.stack([discriminator(examples + s) - discriminator(examples - s) for s in step]) / 2e-6
    assert torch.allclose(slope, numeric.square().sum(dim=0), atol=1e-6)


def test_a_trained_generator_draws_every_mode(model):
    metrics = SPACE.measure(model.sample(200, seed=1)).metrics
    assert metrics["modes_alive"] == 3
    assert metrics["precision"] > 0.6
    assert metrics["coverage"] > 0.5
    assert model.facts["train_units"] == 120 * 200


# One truncated generation of each kind


@pytest.mark.parametrize(("of", "fraction"), [("discriminator", (0.8 + 0.8 + 1) / 3), ("generator", (1 + 1 + 0.8) / 3)])
@pytest.mark.parametrize("control", [None, "random"])
def test_a_truncated_generation_keeps_its_share_and_is_another_model(of, fraction, control):
    cut = fit(truncate={"of": of, "share": 0.2, "control": control})
    assert cut.facts["kept_fraction"] == pytest.approx(fraction)
    assert cut.facts["train_steps"] == fit().facts["train_steps"]
    assert cut.sample(9, seed=0).values.tobytes() != fit().sample(9, seed=0).values.tobytes()


def test_truncation_leaves_out_the_lowest_losses_of_the_network_that_it_names(monkeypatch):
    masks = []
    keep_mask = gan.keep_mask
    monkeypatch.setattr(gan, "keep_mask", lambda *a: masks.append((a[0], keep_mask(*a))) or masks[-1][1])
    for of, batches in (("discriminator", 2), ("generator", 1)):
        masks.clear()
        fit(training={"batch": 50, "epochs": 0.25}, truncate={"of": of, "share": 0.2})
        truncated = [(losses, mask) for losses, mask in masks if not mask.all()]
        assert (len(truncated), len(masks)) == (batches, 3)
        assert all(losses[~mask].max() <= losses[mask].min() for losses, mask in truncated)


# What is refused


def test_a_share_that_leaves_nothing_of_a_batch_is_refused_before_anything_is_trained():
    with pytest.raises(ConfigError, match=r"some of 50 examples and keep some, got 0\.999, which leaves out 50"):
        build(config(truncate={"of": "generator", "share": 0.999}), seed=0, device="cpu", shared={})


def test_a_cut_says_whose_loss_it_cuts():
    with pytest.raises(ValueError, match=r"truncate\.of"):
        config(truncate={"share": 0.1})
