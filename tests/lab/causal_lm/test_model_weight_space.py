import copy
import json
import sys

import pytest
import torch

from tailkeep import lab
from tailkeep.errors import ConfigError, MissingPackageError
from tailkeep.lab.causal_lm.config import LowRank
from tailkeep.lab.causal_lm.learner import build
from tailkeep.lab.causal_lm.model import add_adapters, extrapolate, merge_adapters, relative_change
from tailkeep.lab.learners import sources_of
from tests.lab.causal_lm.tiny import config_tree, write_stories
from tests.runs.faults import Fault, FaultyStorage, content, interrupt
from tests.runs.small_run import TIMINGS


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_stories(tmp_path_factory.mktemp("text"))


def heirs(text, **inherited):
    """What a first model and its heir come to, with `finetune` for the heir."""
    experiment = build(
        lab.load(config_tree(text, finetune=inherited)).arms["baseline"], device="cpu", losses={}, shared={}
    )
    first = experiment.learner.fit(experiment.real, seed=0, budget=experiment.real.units)
    inherited = experiment.learner.fit(experiment.real, seed=1, budget=experiment.real.units, previous=first)
    return first, inherited


def vector(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def moved(network, by):
    other = copy.deepcopy(network)
    with torch.no_grad():
        for number, parameter in enumerate(other.parameters()):
            parameter.add_(by * (number + 1))
    return other


def test_extrapolation_is_the_mirror_image_of_what_training_did_scaled(network):
    trained = moved(network, 0.01)
    away = vector(trained) - vector(network)
    extrapolate(trained, network, 0.5)
    torch.testing.assert_close(vector(trained), vector(network) - 0.5 * away)


def test_the_relative_change_is_a_ratio_of_euclidean_norms(network):
    trained = moved(network, 0.02)
    expected = (vector(trained) - vector(network)).double().norm() / vector(network).double().norm()
    assert relative_change(trained, network) == pytest.approx(float(expected), rel=1e-5)
    assert relative_change(network, network) == 0


def test_an_heir_is_put_on_the_other_side_of_the_model_that_wrote_its_text(text):
    first, trained = heirs(text)
    _, away = heirs(text, extrapolate=0.5)
    base = vector(first.network)
    torch.testing.assert_close(vector(away.network) - base, -0.5 * (vector(trained.network) - base), atol=1e-6, rtol=0)
    assert away.facts["weight_change"] == trained.facts["weight_change"] > 0
    assert "weight_change" not in first.facts


def test_adapters_add_nothing_before_they_are_trained_and_leave_a_plain_model(network):
    before, keys = vector(network).clone(), set(network.state_dict())
    adapted = add_adapters(network, LowRank(rank=2), seed=0)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)
    assert not any("lm_head" in name for name in trained)
    plain = merge_adapters(adapted)
    assert set(plain.state_dict()) == keys
    assert all(parameter.requires_grad for parameter in plain.parameters())
    torch.testing.assert_close(vector(plain), before)


def test_adapters_are_a_function_of_the_seed(network):
    one, again, other = (add_adapters(copy.deepcopy(network), LowRank(), seed=seed) for seed in (1, 1, 2))
    first, second, third = (vector(adapted) for adapted in (one, again, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_a_low_rank_heir_moves_in_few_dimensions_and_not_in_its_words(text):
    first, inherited = heirs(text, low_rank={"rank": 2})
    before, after = (dict(model.network.named_parameters()) for model in (first, inherited))
    assert before.keys() == after.keys()
    changes = {name: (after[name] - before[name]).detach() for name in before}
    ranks = {
        name: int(torch.linalg.matrix_rank(change, rtol=1e-3)) for name, change in changes.items() if change.ndim == 2
    }
    assert ranks["model.embed_tokens.weight"] == ranks["lm_head.weight"] == 0
    assert set(ranks.values()) == {0, 2}
    assert all((change == 0).all() for change in changes.values() if change.ndim == 1)


def test_what_an_heir_does_otherwise_is_not_what_the_first_does(text):
    first, inherited = heirs(text, epochs=3, learning_rate=1e-12)
    assert inherited.facts["train_units"] == pytest.approx(3 * first.facts["train_units"], rel=0.1)
    torch.testing.assert_close(vector(inherited.network), vector(first.network))
    assert inherited.facts["weight_change"] < 1e-6


def test_heirs_that_are_not_there_are_refused(text):
    with pytest.raises(ConfigError, match="finetune has no effect where each generation starts from initial weights"):
        lab.load(config_tree(text, init_from_previous=False, finetune={"extrapolate": 0.5}))
    with pytest.raises(ConfigError, match=r"finetune\.extrapolate"):
        lab.load(config_tree(text, finetune={"extrapolate": 0}))


def test_a_missing_package_is_named_before_anything_is_trained(text, monkeypatch):
    arm = lab.load(config_tree(text, finetune={"low_rank": {}})).arms["baseline"]
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingPackageError, match=r"peft is not installed.*tailkeep\[lora\]"):
        build(arm, device="cpu", losses={}, shared={})


def test_the_version_of_the_adapters_package_counts_where_it_is_used(text):
    plain, adapted = (lab.load(config_tree(text, device="cpu", finetune=keys)) for keys in ({}, {"low_rank": {}}))
    assert "peft" in sources_of(adapted)["baseline"].environment["packages"]
    assert "peft" not in sources_of(plain)["baseline"].environment["packages"]


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_bytes(text, tmp_path):
    arms = {"away": {"finetune": {"extrapolate": 0.5}}, "low-rank": {"finetune": {"low_rank": {"rank": 2}}}}
    config = lab.load({"device": "cpu", "arms": arms, **config_tree(text)})
    storage = FaultyStorage()
    lab.run(config, tmp_path / "whole", storage=storage)
    models = [n for n, (verb, path) in enumerate(storage.log, 1) if verb == "rename" and path.name == "model"]
    for n in (models[0], models[-1]):
        folder = tmp_path / str(n)
        interrupt(lambda faulty, folder=folder: lab.run(config, folder, storage=faulty), Fault(n + 1, "killed"))
        lab.run(config, folder, storage=FaultyStorage())
        assert content(folder, without=TIMINGS) == content(tmp_path / "whole", without=TIMINGS)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["arm"] for row in rows if "weight_change" in row] == ["away", "low-rank"]
