import json
import math

import pytest
import torch

from tailkeep import lab
from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.config import DocumentPrompts, Generation, WindowPrompts
from tailkeep.lab.causal_lm.data_config import Sampling
from tailkeep.lab.causal_lm.model import LanguageModel
from tailkeep.lab.causal_lm.tokens import TokenData
from tailkeep.lab.causal_lm.training import gap_of, settle
from tailkeep.losses.options import RandomMatched, Truncated
from tests.lab.causal_lm.tiny import config_tree, write_stories
from tests.runs.faults import FaultyStorage, content
from tests.runs.small_run import TIMINGS

AUTO = Truncated(threshold="auto")


def model_of(network, tokenizer, stories, *, form=None, temperature=1.0):
    decoder = Sampling(name="sample", temperature=temperature)
    form = form or DocumentPrompts(name="documents", prompt_tokens=2, new_tokens=12)
    return LanguageModel(network, tokenizer, Generation(form=form, decoder=decoder), stories)


def repeated(stories, times=6):
    return stories.concat(*[stories] * (times - 1))


def test_the_first_generation_truncates_nothing(stories):
    loss, facts = settle(AUTO, None, stories, seed=0)
    assert loss.threshold == facts["threshold"] == 1


def test_a_fixed_threshold_is_left_alone(network, tokenizer, stories):
    loss = Truncated(threshold=0.9)
    assert settle(loss, model_of(network, tokenizer, stories), stories, seed=0) == (loss, {})


@pytest.mark.parametrize("form", [None, WindowPrompts(name="windows", context=8, new_tokens=4)])
def test_a_decoder_that_narrows_leads_to_a_threshold_and_the_threshold_drops_the_gap(network, tokenizer, stories, form):
    model = model_of(network, tokenizer, stories, form=form, temperature=0.3)
    loss, facts = settle(AUTO, model, repeated(stories), seed=0)
    assert 0 < facts["confidence_gap"] < 1
    assert loss.threshold == facts["threshold"] < 1


def test_a_model_whose_text_is_as_likely_as_the_real_one_truncates_nothing(network, tokenizer, stories):
    model = model_of(network, tokenizer, stories)
    real = model.regenerate(repeated(stories), seed=1)
    gap = gap_of(model, TokenData.from_documents(real.documents, tokenizer), seed=2)
    assert gap.threshold == 1


def test_what_was_given_does_not_count(network, tokenizer, stories):
    # The prompts are all of the real documents but their last token: one token of each is compared.
    form = DocumentPrompts(name="documents", prompt_tokens=100, new_tokens=1)
    with torch.no_grad():
        network.lm_head.weight.zero_()
    gap = gap_of(model_of(network, tokenizer, stories, form=form), stories, seed=0)
    # Every token has the probability 1 / vocabulary on both sides.
    assert (gap.gap, gap.threshold) == (0.0, 1.0)
    assert math.isnan(gap.crossing)


def test_the_choice_is_a_function_of_the_seed(network, tokenizer, stories):
    model = model_of(network, tokenizer, stories, temperature=0.5)
    same = [gap_of(model, repeated(stories), seed=seed).gap for seed in (0, 0, 1)]
    assert same[0] == same[1] != same[2]


def test_the_control_takes_the_same_threshold(network, tokenizer, stories):
    model, calibration = model_of(network, tokenizer, stories, temperature=0.3), repeated(stories)
    control = RandomMatched(threshold="auto")
    thresholds = [settle(loss, model, calibration, seed=0)[0].threshold for loss in (AUTO, control)]
    assert thresholds[0] == thresholds[1] < 1


def test_it_needs_text_to_calibrate_on(tmp_path):
    with pytest.raises(ConfigError, match=r"'auto' needs real text that no arm trains on. Set data.calibration"):
        lab.load(config_tree(write_stories(tmp_path), loss={"name": "truncated", "threshold": "auto"}))


def test_a_run_records_its_thresholds_and_is_the_same_after_a_kill(tmp_path):
    data = {"name": "text", "path": str(write_stories(tmp_path)), "separator": "line", "calibration": 0.25}
    config = lab.load(
        {
            **config_tree("", loss={"name": "truncated", "threshold": "auto"}),
            "data": data,
            "generations": 3,
            "device": "cpu",
        }
    )
    lab.run(config, tmp_path / "whole")
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["threshold"] == 1
    assert "confidence_gap" not in rows[0]
    assert all(0 < row["threshold"] <= 1 and row["confidence_gap"] >= 0 for row in rows[1:])

    def kill(event):
        if (event.generation, event.phase) == (2, "train"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.run(config, tmp_path / "killed", observe=kill)
    lab.run(config, tmp_path / "killed", storage=FaultyStorage())
    assert content(tmp_path / "killed", without=TIMINGS) == content(tmp_path / "whole", without=TIMINGS)


def test_documents_set_aside_are_in_no_training_set(tmp_path):
    from tailkeep.lab.causal_lm.data_config import TextCorpus
    from tailkeep.lab.causal_lm.dataset import read_dataset

    path = write_stories(tmp_path)
    whole = read_dataset(TextCorpus(name="text", path=path, separator="line", held_out=0.2))
    parted = read_dataset(TextCorpus(name="text", path=path, separator="line", held_out=0.2, calibration=0.25))
    assert parted.real + parted.calibration == whole.real
    assert parted.held_out == whole.held_out
    assert len(parted.calibration) == 8
