"""What holds of flows and GANs alike: seeds, budgets, files, and what both refuse."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailkeep.errors import ConfigError, TrainingError  # noqa: E402
from tailkeep.lab.generative import flow, gan  # noqa: E402
from tailkeep.lab.generative.config import FlowArm, GANArm  # noqa: E402
from tailkeep.lab.generative.spaces import sample_point_space  # noqa: E402
from tailkeep.lab.toy_data import ModesWorld  # noqa: E402

WORLD = {"name": "modes", "layout": "ring", "modes": 3, "size": 60}
SPACE = sample_point_space(ModesWorld(**WORLD), seed=0)
SMALL = {"data": WORLD, "network": {"width": 8, "layers": 1}, "training": {"batch": 20, "epochs": 2}}


def flow_config(**keys):
    return FlowArm(**{"learner": "flow", **SMALL, **keys})


def gan_config(**keys):
    return GANArm(**{"learner": "gan", **SMALL, **keys})


def flow_learner(**keys):
    return flow.build_learner(flow_config(**keys), SPACE, "cpu")


def gan_learner(**keys):
    return gan.build_learner(gan_config(**keys), SPACE, "cpu")


of_both = pytest.mark.parametrize("learner", [flow_learner, gan_learner])


def fit(learner, *, seed=0, previous=None, data=SPACE.real, **keys):
    return learner(**keys).fit(data, seed=seed, budget=60, previous=previous)


def sampled(model, seed=0):
    return model.sample(9, seed=seed).values.tobytes()


@of_both
def test_a_fit_is_a_function_of_its_seed_and_leaves_the_global_generator_alone(learner):
    state = torch.get_rng_state()
    first, second, other = (fit(learner, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert sampled(first) == sampled(second)
    assert sampled(first) != sampled(other)
    assert sampled(first) != sampled(first, seed=1)


@of_both
def test_a_generation_starts_anew_whatever_its_predecessor(learner):
    first = fit(learner)
    assert sampled(fit(learner, seed=5, previous=first)) == sampled(fit(learner, seed=5))


@of_both
def test_a_larger_training_set_is_trained_on_for_as_many_steps(learner):
    larger = fit(learner, data=SPACE.real.concat(SPACE.reference))
    assert larger.facts["train_units"] == fit(learner).facts["train_units"] == 120


@of_both
def test_a_saved_model_draws_the_same_points(learner, tmp_path):
    model = fit(learner)
    model.save(tmp_path)
    again = learner().load(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert sampled(again, seed=3) == sampled(model, seed=3)
    assert again.facts == model.facts


@of_both
def test_what_is_regenerated_is_as_many_fresh_points(learner):
    assert len(fit(learner).regenerate(SPACE.real.take(np.arange(11)), seed=0)) == 11


@of_both
def test_a_loss_that_is_not_finite_is_one_clear_error(learner):
    with pytest.raises(TrainingError, match=r"no longer finite at learning_rate 1e\+30"):
        fit(learner, training={"batch": 20, "epochs": 4, "learning_rate": 1e30})


@pytest.mark.parametrize(("module", "config"), [(flow, flow_config), (gan, gan_config)])
def test_a_gpu_that_is_not_there_is_refused(module, config):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match=r"cuda needs a GPU, but torch sees none\. Use device=auto"):
        module.build(config(), seed=0, device="cuda", shared={})


@pytest.mark.parametrize("learner", ["flow", "gan"])
def test_a_gpu_can_be_chosen(learner):
    from tailkeep import lab

    assert lab.load({"learner": learner, "device": "cuda"}).device == "cuda"
