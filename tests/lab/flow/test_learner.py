"""Flow matching: what it learns and each form of truncation."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailkeep.errors import ConfigError  # noqa: E402
from tailkeep.lab.generative.config import FlowArm  # noqa: E402
from tailkeep.lab.generative.flow import FlowLearner, build  # noqa: E402
from tailkeep.lab.generative.spaces import draw_plane  # noqa: E402
from tailkeep.lab.toy_data import ModesWorld  # noqa: E402

WORLD = {"name": "modes", "layout": "ring", "modes": 3, "spacing": 3.0, "std": 0.3, "size": 200}
PLANE = draw_plane(ModesWorld(**WORLD), seed=0)
SMALL = {"learner": "flow", "data": WORLD, "network": {"width": 32}, "training": {"batch": 100, "epochs": 2}}
TRAINED = {"training": {"batch": 100, "epochs": 120, "times": 2}}


def study(**keys):
    return FlowArm(**{**SMALL, **keys})


def learner(**keys):
    return FlowLearner(study(**keys), PLANE, "cpu")


def fit(**keys):
    return learner(**keys).fit(PLANE.real, seed=0, budget=200)


@pytest.fixture(scope="module")
def model():
    return fit(**TRAINED)


def test_a_trained_flow_draws_the_modes_and_gives_unseen_points_their_likelihood(model):
    found = PLANE.measure(model.sample(200, seed=1)).metrics
    assert found["modes_alive"] == 3
    assert found["precision"] > 0.6
    assert found["coverage"] > 0.6
    untrained = fit(training={"batch": 100, "epochs": 1e-9})
    assert untrained.facts["train_steps"] == 1
    excess, before = (PLANE.excess(m.log_density(PLANE.near, PLANE)) for m in (model, untrained))
    assert 0 < excess < 0.5 * before


def test_the_likelihood_in_the_planes_unit_integrates_to_one(model):
    line = np.linspace(-6, 6, 81)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    density = np.exp(model.log_density(type(PLANE.real)(grid), PLANE))
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
        flow, "_train", lambda field, examples, *a, **k: seen.append(examples) or whole(field, examples, *a, **k)
    )
    fit(**TRAINED, truncate={"name": "likely", "share": 0.5})
    everything, kept = (PLANE.decode(examples) for examples in seen)
    assert (len(everything), len(kept)) == (200, 100)
    centres = PLANE.world.centres
    far, near = (np.linalg.norm(p.values[:, None] - centres, axis=2).min(axis=1).mean() for p in (kept, everything))
    assert far > 1.2 * near


# What is refused


@pytest.mark.parametrize(("name", "count"), [("loss", 100), ("likely", 200)])
def test_a_share_that_leaves_nothing_is_refused_before_anything_is_trained(name, count):
    with pytest.raises(ConfigError, match=rf"share: 0.999 of {count} examples leaves out {count}"):
        build(study(truncate={"name": name, "share": 0.999}), seed=0, device="cpu", shared={})


def test_the_likeliest_images_are_refused_and_the_way_out_is_named():
    with pytest.raises(ValueError, match=r"offered for points only.*Use truncate 'loss' for images"):
        study(data={"name": "digits"}, truncate={"name": "likely"})
