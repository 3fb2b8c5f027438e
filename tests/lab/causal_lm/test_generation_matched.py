import json
import math

import numpy as np
import pytest

from tailkeep import lab
from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.config import DocumentPrompts, Generation, MatchedTemperature, WindowPrompts
from tailkeep.lab.causal_lm.data_config import Sampling
from tailkeep.lab.causal_lm.generation import bisect_decreasing, continue_prompts, match_temperature, sample_contexts
from tailkeep.lab.causal_lm.learner import build
from tailkeep.lab.causal_lm.tokens import TokenData
from tests.lab.causal_lm.tiny import config_tree, write_stories

FORM = DocumentPrompts(name="documents", prompt_tokens=2, new_tokens=16)


def text_at(network, tokenizer, starts, temperature, *, stop_at_eos=True):
    """What the model itself writes at `temperature`, as if it were real."""
    decoder = Sampling(name="sample", temperature=temperature)
    generated = continue_prompts(
        network, tokenizer, starts, decoder=decoder, new_tokens=16, stop_at_eos=stop_at_eos, batch=256, seed=77
    )
    return TokenData.from_documents([np.concatenate([s, w]) for s, w in zip(starts, generated, strict=True)], tokenizer)


def matched(network, tokenizer, real, *, form=FORM, seed=0, **choices):
    decoder = MatchedTemperature(name="matched", texts=256, **choices)
    return match_temperature(network, tokenizer, real, Generation(form=form, decoder=decoder), decoder, seed=seed)


@pytest.mark.parametrize("root", [0.3, 1.0, 3.5])
def test_bisection_finds_the_root_to_the_factor_it_says(root):
    matched_temperature = bisect_decreasing(lambda x: math.log(root / x), low=0.25, high=4, steps=10)
    assert abs(math.log(matched_temperature / root)) < math.log(4 / 0.25) / 2**11


def test_a_root_beyond_the_bounds_gives_the_nearer_one():
    assert bisect_decreasing(lambda x: -x, low=0.5, high=2, steps=3) == 0.5
    assert bisect_decreasing(lambda x: 1 / x, low=0.5, high=2, steps=3) == 2


@pytest.mark.usefixtures("generators")
@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.5])
def test_a_models_own_text_is_matched_by_the_temperature_that_wrote_it(network, tokenizer, stories, temperature):
    starts = [document[:2] for document in stories.documents] * 8
    real = text_at(network, tokenizer, starts, temperature)
    assert matched(network, tokenizer, real) == pytest.approx(temperature, rel=0.12)


def test_windows_are_matched_too(network, tokenizer, stories):
    starts = [document[:2] for document in stories.documents] * 4
    real = text_at(network, tokenizer, starts, 1.4, stop_at_eos=False)
    form = WindowPrompts(name="windows", context=12, new_tokens=6)
    assert matched(network, tokenizer, real, form=form) == pytest.approx(1.4, rel=0.25)


def test_text_beyond_all_temperatures_gives_a_bound(network, tokenizer, stories):
    noise = np.random.default_rng(0).integers(3, tokenizer.size, size=(40, 20)).astype(np.int32)
    assert matched(network, tokenizer, TokenData.from_documents(list(noise), tokenizer), high=1.5) == 1.5
    starts = [document[:2] for document in stories.documents]
    assert matched(network, tokenizer, text_at(network, tokenizer, starts, 1e-6), low=0.8) == 0.8


def test_one_seed_gives_one_temperature(network, tokenizer, stories):
    real = text_at(network, tokenizer, [document[:2] for document in stories.documents], 1.0)
    one, again, other = (matched(network, tokenizer, real, seed=seed, steps=14) for seed in (1, 1, 2))
    assert one == again != other


def test_documents_begin_with_their_own_first_tokens(stories):
    contexts, tails = sample_contexts(stories, FORM, len(stories), seed=0)
    whole = {tuple(document.tolist()[:18]) for document in stories.documents}
    assert {tuple(np.concatenate(pair).tolist()) for pair in zip(contexts, tails, strict=True)} == whole
    assert {len(context) for context in contexts} == {2}


def test_windows_stand_where_the_joined_text_has_them(stories):
    form = WindowPrompts(name="windows", context=7, new_tokens=4)
    contexts, tails = sample_contexts(stories, form, 50, seed=0)
    text = stories.ids.tolist()
    for context, tail in zip(contexts, tails, strict=True):
        whole = [*context.tolist(), *tail.tolist()]
        assert any(text[i : i + len(whole)] == whole for i in range(len(text)))
        assert len(tail) == 4
    assert max(map(len, contexts)) == 7


WRITING = {
    "form": {"name": "documents", "new_tokens": 10},
    "decoder": {"name": "matched", "texts": 16, "steps": 3, "top_p": 0.9},
}


def test_a_model_writes_at_the_temperature_that_its_facts_tell(tmp_path):
    arm = lab.load(config_tree(write_stories(tmp_path), generation=WRITING)).arms["baseline"]
    experiment = build(arm, device="cpu", losses={}, shared={})
    model = experiment.learner.fit(experiment.real, seed=0, budget=experiment.real.units)
    temperature = model.facts["decoder_temperature"]
    assert 0.25 <= temperature <= 4
    starts = [document[:1] for document in experiment.real.documents]
    same = Sampling(name="sample", temperature=temperature, top_p=0.9)
    one, other = (
        model.complete(starts, decoder, new_tokens=10, seed=3).ids.tolist()
        for decoder in (arm.generation.decoder, same)
    )
    assert one == other
    (tmp_path / "model").mkdir()
    model.save(tmp_path / "model")
    loaded = experiment.learner.load(tmp_path / "model")
    assert loaded.facts["decoder_temperature"] == temperature
    assert loaded.sample(4, seed=1).ids.tolist() == model.sample(4, seed=1).ids.tolist()
    assert list(experiment.views) == ["common", "own"]


def test_the_temperature_stands_among_a_generations_metrics(tmp_path):
    config = {"device": "cpu", **config_tree(write_stories(tmp_path), generation=WRITING)}
    run = lab.run(config, tmp_path / "run")
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 2
    assert all(0.25 <= row["decoder_temperature"] <= 4 for row in rows)


def test_bounds_that_leave_nothing_are_refused(tmp_path):
    decoder = {"name": "matched", "low": 2, "high": 1}
    with pytest.raises(ConfigError, match=r"low must be < high, got low 2\.0 and high 1\.0"):
        lab.load(config_tree(tmp_path / "text", generation={"decoder": decoder}))


@pytest.mark.parametrize("regime", ["regenerate", "fresh_only"])
def test_text_that_arrives_in_parts_is_no_measure_of_a_model_that_has_not_read_it(tmp_path, regime):
    tree = config_tree(write_stories(tmp_path), regime={"name": regime, "fractions": 4})
    tree["generation"] |= {"decoder": {"name": "matched"}}
    with pytest.raises(ConfigError, match=f"which arrives in parts in the regime {regime}. Use another decoder"):
        lab.load(tree)
