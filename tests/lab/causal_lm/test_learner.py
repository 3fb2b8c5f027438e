import json
import shutil

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tailkeep.errors import ConfigError, InputError
from tailkeep.lab.causal_lm import model as room
from tailkeep.lab.causal_lm.learner import build
from tailkeep.lab.config import load
from tailkeep.scoring import token_log_probs
from tests.lab.causal_lm.tiny import SHAPE, STORIES, config_tree, write_stories


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    return write_stories(tmp_path_factory.mktemp("text"))


def built(text, *, losses=None, shared=None, device="cpu", **changes):
    arm = load(config_tree(text, **changes)).arms["baseline"]
    return build(arm, device=device, losses=losses or {}, shared={} if shared is None else shared)


def pretrained(folder):
    return {"model": {"name": "pretrained", "path": str(folder)}, "tokenizer": {}}


def parameters(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.network.parameters()])


def test_the_last_documents_are_held_out(text):
    experiment = built(text)
    assert (len(experiment.real), len(experiment.measure.held_out)) == (32, 8)
    assert experiment.real.tokenizer.decode(experiment.measure.held_out.documents[-1]) == STORIES[-1]


def test_the_tokenizer_sees_no_held_out_text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(["aaaa bbbb"] * 8 + ["zqzqzqzq"] * 2))
    tokens = built(path, training={"block": 2}).measure.held_out.documents[0]
    assert len(tokens) == 2 + len("zqzqzqzq")


def test_fitting_leaves_the_predecessor_as_it_is(text):
    experiment = built(text)
    first = experiment.learner.fit(experiment.real, seed=0, budget=experiment.real.units)
    before = parameters(first).clone()
    second = experiment.learner.fit(experiment.real, seed=1, budget=experiment.real.units, previous=first)
    assert torch.equal(parameters(first), before)
    assert not torch.equal(parameters(second), before)


def test_an_heir_begins_with_its_predecessors_weights_and_a_restart_with_new_ones(text):
    still = {"block": 8, "batch": 64, "epochs": 1, "learning_rate": 1e-12}
    for inherit in (True, False):
        experiment = built(text, training=still, init_from_previous=inherit)
        other = built(text, training={**still, "learning_rate": 1e-2}).learner
        first = other.fit(experiment.real, seed=0, budget=experiment.real.units)
        second = experiment.learner.fit(experiment.real, seed=1, budget=experiment.real.units, previous=first)
        assert torch.allclose(parameters(first), parameters(second), atol=1e-6) is inherit


def test_a_pretrained_model_is_where_every_restart_begins(text, model_folder, weights):
    still = {"block": 8, "batch": 64, "epochs": 1, "learning_rate": 1e-12}
    experiment = built(text, training=still, init_from_previous=False, **pretrained(model_folder))
    for seed in (0, 1):
        model = experiment.learner.fit(experiment.real, seed=seed, budget=experiment.real.units)
        expected = torch.cat([parameter.flatten() for parameter in weights.parameters()])
        assert torch.allclose(parameters(model), expected, atol=1e-6)


def test_a_saved_model_writes_and_measures_as_before(text, tmp_path):
    experiment = built(text)
    model = experiment.learner.fit(experiment.real, seed=0, budget=experiment.real.units)
    model.save(tmp_path)
    loaded = experiment.learner.load(tmp_path)
    samples = {name: view(model, 3) for name, view in experiment.views.items()}
    again = {name: view(loaded, 3) for name, view in experiment.views.items()}
    assert {name: tokens.ids.tolist() for name, tokens in samples.items()} == {
        name: tokens.ids.tolist() for name, tokens in again.items()
    }
    assert loaded.facts == model.facts
    assert experiment.measure(model, samples) == experiment.measure(loaded, again)


def test_the_own_view_is_left_out_where_it_is_the_common_one(text):
    form = {"name": "documents", "new_tokens": 10}
    assert list(built(text).views) == ["common"]
    greedy = built(text, generation={"form": form, "decoder": {"name": "greedy"}})
    assert list(greedy.views) == ["common", "own"]


def test_samples_have_a_fixed_size_and_begin_with_held_out_text(text):
    experiment = built(text, evaluation={"samples": 11, "prompt_tokens": 3, "new_tokens": 4})
    model = experiment.learner.fit(experiment.real, seed=0, budget=8)
    samples = experiment.views["common"](model, 0)
    held_out = experiment.measure.held_out.documents
    assert len(samples) == 11
    for i, document in enumerate(samples.documents):
        assert document[:3].tolist() == held_out[i % len(held_out)][:3].tolist()


def test_arms_share_what_they_have_in_common(text):
    shared = {}
    one, other = built(text, shared=shared), built(text, shared=shared, loss={"name": "focal"})
    assert one.real is other.real
    assert len(shared) == 1
    built(text, shared=shared, tokenizer={"train": {"vocab_size": 290}})
    assert len(shared) == 2


def test_a_loss_of_the_callers_own_is_trained_with(text):
    seen = []

    def weighting(options):
        def weigh(nll):
            seen.append(options["by"])
            return torch.ones_like(nll)

        return weigh

    loss = {"name": "user", "id": "mine", "version": "1", "options": {"by": 2}}
    experiment = built(text, loss=loss, losses={"mine": weighting})
    experiment.learner.fit(experiment.real, seed=0, budget=8)
    assert set(seen) == {2}


def small(**shape):
    return {"model": {"name": "scratch", "type": "llama", "config": {**SHAPE, **shape}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (small(max_position_embeddings=8), "training.block needs 9 positions, the model has 8"),
        ({"generation": {"form": {"name": "documents", "new_tokens": 64}}}, "generation.form needs 65 positions"),
        (
            {"generation": {"form": {"name": "windows", "context": 60, "new_tokens": 5}}},
            "generation.form needs 65 positions",
        ),
        ({"evaluation": {"prompt_tokens": 60, "new_tokens": 5}}, "evaluation needs 65 positions, the model has 64"),
        (small(vocab_size=299), "the tokenizer has 300 ids, the model 299"),
        ({"training": {"block": 400}}, r"the real text has \d+ tokens .*shorter than one block of 400"),
        ({"tokenizer": {}}, "a model from scratch needs one. Set tokenizer.train.vocab_size or tokenizer.path"),
        ({"loss": {"name": "user", "id": "mine", "version": "1"}}, "'mine' was not handed over"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_any_training(text, changes, message):
    with pytest.raises((ConfigError, InputError), match=message):
        built(text, **changes)


def test_a_held_out_text_shorter_than_a_block_is_named_as_such(text):
    data = {**config_tree(text)["data"], "held_out": 0.03}
    with pytest.raises(InputError, match=r"the held-out text has \d+ tokens in 1 .*shorter than one block of 30"):
        built(text, data=data, training={"block": 30})


def test_a_question_longer_than_the_model_can_read_is_refused(text, tmp_path):
    long = {"context": "Ann " * 80, "sentence_true": "saw", "sentence_false": "had"}
    (tmp_path / "questions.json").write_text(json.dumps([long]))
    data = {**config_tree(text)["data"], "kr_test": str(tmp_path / "questions.json")}
    with pytest.raises(ConfigError, match=r"a question of the KR-test needs \d+ positions, the model has 64"):
        built(text, data=data)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused(text):
    with pytest.raises(ConfigError, match=r"cuda needs a GPU, but torch sees none\. Use device=auto"):
        built(text, device="cuda")


def test_a_pretrained_model_keeps_its_own_vocabulary(text, model_folder):
    with pytest.raises(ConfigError, match=r"tokenizer.train makes a new vocabulary, which fits neither"):
        built(text, **{**pretrained(model_folder), "tokenizer": {"train": {"vocab_size": 300}}})


def test_a_model_folder_without_a_tokenizer_is_named(text, model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(InputError, match="holds no tokenizer"):
        built(text, **pretrained(folder))
    experiment = built(text, **{**pretrained(folder), "tokenizer": {"path": str(model_folder)}})
    assert len(experiment.real) == 32


def test_a_tokenizer_without_an_end_cannot_append_one(text, model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "endless")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"this tokenizer has no end-of-text token\. Set it to false"):
        built(text, **pretrained(folder))
    assert built(text, **{**pretrained(folder), "tokenizer": {"append_eos": False}}).real.tokenizer.stop is None


def test_a_model_that_its_writer_has_advised_to_cut_is_sampled_uncut(text, model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "advised")
    plain, advised = (built(text, **pretrained(path)) for path in (model_folder, folder))
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True, "top_k": 1, "eos_token_id": 5}))
    generated = [
        experiment.views["common"](experiment.learner.load(path_with_facts(path, tmp_path)), 0).ids.tolist()
        for experiment, path in ((plain, model_folder), (advised, folder))
    ]
    assert generated[0] == generated[1]


def path_with_facts(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / f"facts-{folder.name}")
    (copied / "facts.json").write_text("{}")
    return copied


def test_another_architecture_runs_through_everything(text, tokenizer, tmp_path):
    config = GPT2Config(vocab_size=tokenizer.size, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    decoder = {"name": "greedy", "repetition_penalty": 1.5}
    form = {"name": "documents", "prompt_tokens": 3, "new_tokens": 10}
    experiment = built(text, generation={"form": form, "decoder": decoder}, **pretrained(tmp_path))
    model = experiment.learner.fit(experiment.real, seed=0, budget=experiment.real.units)
    measured = experiment.measure(model, {name: view(model, 0) for name, view in experiment.views.items()})
    # A model that ends its documents at once writes no n-gram to count.
    assert all(np.isfinite(value) for name, value in measured.metrics.items() if "own.distinct" not in name)


def test_a_real_model_reads_real_text_well_and_writes_english(real_data, tmp_path):
    experiment = built(
        real_data / "text" / "tinystories.txt",
        **{**pretrained(real_data / "priors" / "stories260k"), "tokenizer": {"append_eos": False}},
        data={
            "name": "text", "path": str(real_data / "text" / "tinystories.txt"), "separator": "<|endoftext|>",
            "held_out": 0.1, "limit": 40,
        },
        training={"block": 128, "epochs": 0.01},
        generation={"form": {"name": "windows", "context": 96, "new_tokens": 32}, "decoder": {"name": "greedy"}},
        evaluation={"samples": 8, "prompt_tokens": 8, "new_tokens": 32},
    )  # fmt: skip
    model = experiment.learner.fit(experiment.real, seed=0, budget=10)
    measured = experiment.measure(model, {name: view(model, 0) for name, view in experiment.views.items()})
    assert 1.1 < measured.metrics["held_out_nll"] < 2.0
    part = experiment.real.take(np.arange(2))
    assert model.regenerate(part, seed=0).units == part.units


def test_bfloat16_is_refused_before_any_training_where_the_processor_has_none(text, monkeypatch):
    monkeypatch.setattr(room, "has_native_bfloat16", lambda device: False)
    with pytest.raises(ConfigError, match=r"dtype\.train is bfloat16, but this cpu has none"):
        built(text, dtype="bfloat16")


def test_in_bfloat16_a_model_trains_and_is_scored_over_float32_weights(text, monkeypatch):
    monkeypatch.setattr(room, "has_native_bfloat16", lambda device: True)
    wide, narrow = (built(text, dtype=dtype) for dtype in ("float32", {"train": "bfloat16", "score": "bfloat16"}))
    models = [experiment.learner.fit(experiment.real, seed=1, budget=400) for experiment in (wide, narrow)]
    assert {weights.dtype for model in models for weights in model.network.parameters()} == {torch.float32}
    assert not torch.equal(*map(parameters, models))
    assert "forward" not in vars(models[1].network)
    following = narrow.learner.fit(narrow.real, seed=2, budget=400, previous=models[1])
    assert following.facts["weight_change"] > 0
    rows = wide.real.documents[:4]
    exact, rounded = (np.concatenate(model.log_probs(rows)) for model in models)
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded.mean(), exact.mean(), rtol=0.02)
    in_float32 = np.concatenate(token_log_probs(models[1].network, rows, pad=wide.real.tokenizer.pad))
    assert 0 < np.abs(rounded - in_float32).max() < 0.2
