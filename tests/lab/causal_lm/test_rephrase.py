"""The regime `rephrase`: one document in, one out, written by a model that has it in its prompt."""

import json

import numpy as np
import pytest

from tailkeep import lab
from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm import generation as room
from tailkeep.lab.causal_lm.config import Generation
from tailkeep.lab.causal_lm.data_config import Greedy
from tailkeep.lab.causal_lm.model import LanguageModel
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer
from tailkeep.lab.causal_lm.tokens import TokenData
from tests.lab.causal_lm.test_chat_template import chat_tokenizer
from tests.lab.causal_lm.tiny import STORIES, config_tree, write_stories

TELL = {"instruction": "In other words:", "max_length_ratio": 1.5}


@pytest.fixture
def texts(hf_tokenizer):
    tokenizer = DocumentTokenizer(hf_tokenizer, append_eos=False)
    return TokenData.from_documents([tokenizer.encode(text) for text in (STORIES[0], STORIES[1] * 2)], tokenizer)


def answer(monkeypatch, *answers):
    """Have the model write these texts, in the order of the prompts; the prompts and their limits."""
    seen = []
    queue = list(answers)

    def write(network, tokenizer, prompts, *, new_tokens, **options):
        seen.extend((tokenizer.hf_tokenizer.decode(prompt), new_tokens) for prompt in prompts)
        return [tokenizer.encode(queue.pop(0))[1:] for _ in prompts]

    monkeypatch.setattr(room, "continue_prompts", write)
    return seen


def rephrased(texts, **options):
    return room.rephrase(None, texts, decoder=Greedy(name="greedy"), batch=1, seed=0, **{**TELL, **options})


def test_a_base_model_reads_the_document_and_then_the_instruction(texts, monkeypatch):
    seen = answer(monkeypatch, "One.", "Two.")
    result = rephrased(texts)
    assert [prompt for prompt, _ in seen] == [
        f"<s>{STORIES[0]}\n\nIn other words:\n\n", f"<s>{STORIES[1] * 2}\n\nIn other words:\n\n",
    ]  # fmt: skip
    assert [texts.tokenizer.decode(document) for document in result.documents] == ["One.", "Two."]


def test_a_chat_model_is_told_in_its_own_template():
    prompt = room.rephrase_prompt(chat_tokenizer(), "Ann saw.", "In other words:")
    text = chat_tokenizer().hf_tokenizer.decode(prompt)
    assert text == "<s>user\nIn other words:\n\nAnn saw.</s>\n<s>assistant\n"


def test_a_document_grows_by_no_more_than_the_ratio(texts, monkeypatch):
    seen = answer(monkeypatch, STORIES[2] * 5, STORIES[3] * 9)
    result = rephrased(texts)
    limits = [int(np.ceil(1.5 * length)) for length in texts.lengths]
    assert [limit for _, limit in seen] == limits
    # Encoded again the text may take a token or two more or less.
    assert all(length <= limit + 2 for length, limit in zip(result.lengths, limits, strict=True))


def test_documents_keep_their_order_whatever_their_length(texts, monkeypatch):
    answer(monkeypatch, "Short.", "Long.")
    swapped = texts.take(np.array([1, 0]))
    result = rephrased(swapped)
    assert [texts.tokenizer.decode(document) for document in result.documents] == ["Long.", "Short."]


def test_a_model_may_leave_a_document_empty(texts, monkeypatch):
    answer(monkeypatch, "", "Two.")
    assert rephrased(texts).lengths.tolist()[0] == 1


def test_the_arms_decoder_and_seed_decide_what_is_written(network, texts):
    model = LanguageModel(network, texts.tokenizer, Generation(batch=2), texts)
    first, same, other = (model.rephrase(texts, seed=seed, **TELL).ids.tolist() for seed in (1, 1, 2))
    assert first == same != other


@pytest.mark.parametrize("beside", [False, True])
def test_the_next_generation_trains_on_what_was_rewritten(tmp_path, beside):
    regime = {"name": "rephrase", "beside": beside, "instruction": "Again:"}
    tree = config_tree(write_stories(tmp_path), regime=regime, device="cpu")
    tree["model"] = {**tree["model"], "config": {**tree["model"]["config"], "max_position_embeddings": 128}}
    lab.run(tree, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    folder = next((tmp_path / "run").glob("cells/*/0/1/generated/1"))
    written = np.load(folder / "lengths.npy")
    real = rows[0]["train_data_units"]
    assert rows[1]["train_data_units"] == written.sum() + (real if beside else 0)
    assert len(written) == 32


def test_a_document_that_the_model_cannot_read_whole_is_an_error_before_training(tmp_path):
    tree = config_tree(write_stories(tmp_path), regime={"name": "rephrase"}, device="cpu")
    with pytest.raises(ConfigError, match=r"'rephrase' needs \d+ positions for the longest document \(\d+ tokens\)"):
        lab.run(tree, tmp_path / "run")


def test_only_language_models_rephrase():
    with pytest.raises(ConfigError, match="'rephrase' rewrites documents of text, which this learner's models cannot"):
        lab.load({"learner": "gaussian", "regime": {"name": "rephrase"}})
