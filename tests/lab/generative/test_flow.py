"""Flow matching: what it learns and each form of truncation."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailkeep.errors import ConfigError  # noqa: E402
from tailkeep.lab.generative.config import FlowArm  # noqa: E402
from tailkeep.lab.generative.flow import build, build_learner  # noqa: E402
from tailkeep.lab.generative.spaces import sample_point_space  # noqa: E402
from tailkeep.lab.toy_data import ModesWorld  # noqa: E402

WORLD = {"name": "modes", "layout": "ring", "modes": 3, "spacing": 3.0, "std": 0.3, "size": 200}
SPACE = sample_point_space(ModesWorld(**WORLD), seed=0)
SMALL = {"learner": "flow", "data": WORLD, "network": {"width": 32}, "training": {"batch": 100, "epochs": 2}}
TRAINED = {"training": {"batch": 100, "epochs": 120, "times": 2}}


def config(**keys):
    return FlowArm(**{**SMALL, **keys})


def learner(**keys):
    return build_learner(config(**keys), SPACE, "cpu")


def fit(**keys):
    return learner(**keys).fit(SPACE.real, seed=0, budget=200)


@pytest.fixture(scope="module")
def model():
    return fit(**TRAINED)


def test_a_trained_flow_draws_the_modes_and_gives_unseen_points_their_likelihood(model):
    metrics = SPACE.measure(model.sample(200, seed=1)).metrics
    assert metrics["modes_alive"] == 3
    assert metrics["precision"] > 0.6
    assert metrics["coverage"] > 0.6
    untrained = fit(training={"batch": 100, "epochs": 1e-9})
    assert untrained.facts["train_steps"] == 1
    excess, before = (SPACE.kl_divergence(m.log_density(SPACE.reference, SPACE)) for m in (model, untrained))
    assert 0 < excess < 0.5 * before


def test_the_likelihood_in_the_planes_unit_integrates_to_one(model):
    line = np.linspace(-6, 6, 81)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    density = np.exp(model.log_density(type(SPACE.real)(grid), SPACE))
    assert density.sum() * 0.15**2 == pytest.approx(1, abs=0.03)


# One truncated generation of each kind


@pytest.mark.parametrize("name", ["loss", "likely"])
@pytest.mark.parametrize("control", [None, "random"])
def test_a_truncated_generation_keeps_its_share_and_is_another_model(name, control):
    cut = fit(truncate={"name": name, "share": 0.2, "control": control})
    assert cut.facts["kept_fraction"] == pytest.approx(0.8)
    assert cut.facts["train_steps"] == fit().facts["train_steps"]
    assert cut.sample(9, seed=0).values.tobytes() != fit().sample(9, seed=0).values.tobytes()


def test_what_the_likeliest_cut_leaves_out_is_likelier_than_what_it_keeps(model, monkeypatch):
    from tailkeep.lab.generative import flow

    seen = []
    whole = flow._train
    monkeypatch.setattr(
        flow, "_train", lambda config, examples, *a, **k: seen.append(examples) or whole(config, examples, *a, **k)
    )
    fit(**TRAINED, truncate={"name": "likely", "share": 0.5})
    sets = [SPACE.decode(examples) for examples in reversed(seen)]
    assert [len(points) for points in sets] == [100, 200]
    centres = SPACE.world.centres
    far, near = (np.linalg.norm(p.values[:, None] - centres, axis=2).min(axis=1).mean() for p in sets)
    assert far > 1.2 * near


# What is refused


@pytest.mark.parametrize(("name", "count"), [("loss", 100), ("likely", 200)])
def test_a_share_that_leaves_nothing_is_refused_before_anything_is_trained(name, count):
    with pytest.raises(ConfigError, match=rf"some of {count} examples .*, got 0\.999, which leaves out {count}\."):
        build(config(truncate={"name": name, "share": 0.999}), seed=0, device="cpu", shared={})


def test_the_likeliest_images_are_refused_and_the_way_out_is_named():
    with pytest.raises(ValueError, match=r"'likely' supports points only.*Use truncate 'loss' for images"):
        config(data={"name": "digits"}, truncate={"name": "likely"})
