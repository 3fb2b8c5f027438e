import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tailkeep.lab.causal_lm.config import DocumentPrompts, Generation, WindowPrompts
from tailkeep.lab.causal_lm.data_config import Greedy, Sampling
from tailkeep.lab.causal_lm.model import LanguageModel

GREEDY = Greedy(name="greedy")


def model_of(network, tokenizer, stories, form, decoder=GREEDY):
    return LanguageModel(network, tokenizer, Generation(form=form, decoder=decoder), stories, {"train_units": 5.0})


def windowed(network, tokenizer, stories, *, context=6, new_tokens=4, decoder=GREEDY):
    return model_of(
        network, tokenizer, stories, WindowPrompts(name="windows", context=context, new_tokens=new_tokens), decoder
    )


def argmax_tail(network, tokenizer, prompt, count):
    ids = torch.tensor(prompt[None].astype(np.int64))
    with torch.no_grad():
        for _ in range(count):
            scores = network(input_ids=ids).logits[0, -1]
            scores[tokenizer.suppressed_ids] = -torch.inf
            ids = torch.cat([ids, scores.argmax()[None, None]], 1)
    return ids[0, len(prompt) :].tolist()


@pytest.mark.parametrize(("context", "new_tokens"), [(6, 4), (3, 7), (1, 1), (50, 10)])
def test_windows_keep_length_boundaries_and_the_first_token(network, tokenizer, stories, context, new_tokens):
    data = stories.take(np.arange(3))
    model = windowed(network, tokenizer, stories, context=context, new_tokens=new_tokens)
    generated = model.regenerate(data, seed=0)
    assert generated.units == data.units
    assert generated.ids.dtype == np.int32
    assert generated.lengths.tolist() == data.lengths.tolist()
    assert generated.ids[0] == data.ids[0]


def test_each_window_continues_the_original_text(network, tokenizer, stories):
    data = stories.take(np.arange(3))
    generated = windowed(network, tokenizer, stories).regenerate(data, seed=0)
    assert (generated.ids != data.ids).any()
    for first in range(1, data.units, 4):
        window = generated.ids[first : first + 4].tolist()
        prompt = data.ids[max(0, first - 6) : first]
        assert window == argmax_tail(network, tokenizer, prompt, 4)[: len(window)]


def test_a_text_of_one_token_has_nothing_to_rewrite(network, tokenizer, stories):
    single = stories.take(np.array([0])).with_ids(stories.ids[:1])
    data = type(single)(single.ids, np.array([1]), np.array([0]), tokenizer)
    assert windowed(network, tokenizer, stories).regenerate(data, seed=0).ids.tolist() == data.ids.tolist()


def test_documents_are_begun_by_the_originals_first_tokens(network, tokenizer, stories):
    form = DocumentPrompts(name="documents", prompt_tokens=3, new_tokens=5)
    generated = model_of(network, tokenizer, stories, form).regenerate(stories.take(np.arange(4)), seed=0)
    assert len(generated) == 4
    assert generated.prompts.tolist() == [3] * 4
    for old, new in zip(stories.documents, generated.documents, strict=False):
        assert new[:3].tolist() == old[:3].tolist()
        assert 3 < len(new) <= 8


def test_a_document_shorter_than_the_prompt_leaves_the_model_something_to_write(network, tokenizer, stories):
    short = type(stories).from_documents([stories.documents[0][:2], stories.documents[0][:1]], tokenizer)
    form = DocumentPrompts(name="documents", prompt_tokens=9, new_tokens=5)
    generated = model_of(network, tokenizer, stories, form).regenerate(short, seed=0)
    assert generated.prompts.tolist() == [1, 1]
    assert all(len(tail) for tail in generated.continuations)


def test_samples_are_begun_by_different_real_documents(network, tokenizer, stories):
    form = DocumentPrompts(name="documents", prompt_tokens=4, new_tokens=3)
    generated = model_of(network, tokenizer, stories, form).sample(len(stories), seed=1)
    starts = sorted(tuple(document[:4]) for document in stories.documents)
    assert sorted(tuple(document[:4]) for document in generated.documents) == starts


def test_more_samples_than_documents_can_be_asked_for(network, tokenizer, stories):
    form = DocumentPrompts(name="documents", new_tokens=2)
    assert len(model_of(network, tokenizer, stories, form).sample(len(stories) + 9, seed=0)) == len(stories) + 9


def test_samples_in_windows_are_whole_documents(network, tokenizer, stories):
    generated = windowed(network, tokenizer, stories).sample(5, seed=0)
    assert len(generated) == 5
    assert sorted(generated.lengths.tolist())[0] >= stories.lengths.min()


def test_one_seed_writes_one_text(network, tokenizer, stories):
    model = windowed(network, tokenizer, stories, decoder=Sampling(name="sample"))
    one, again, other = (model.sample(4, seed=seed).ids.tolist() for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_completion_may_be_asked_not_to_stop(network, tokenizer, stories):
    model = windowed(network, tokenizer, stories)
    starts = [document[:2] for document in stories.documents]
    generated = model.complete(starts, Sampling(name="sample"), new_tokens=30, seed=0, stop_at_eos=False)
    assert set(generated.lengths.tolist()) == {32}
    stopped = model.complete(starts * 3, Sampling(name="sample"), new_tokens=30, seed=0)
    assert min(stopped.lengths) < 32


def test_a_saved_model_is_a_hugging_face_folder_without_pickles(network, tokenizer, stories, tmp_path):
    windowed(network, tokenizer, stories).save(tmp_path)
    assert json.loads((tmp_path / "facts.json").read_text()) == {"train_units": 5.0}
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]
    assert load_file(tmp_path / "model.safetensors")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert AutoTokenizer.from_pretrained(tmp_path)("Ann")["input_ids"] == tokenizer.encode_without_eos("Ann").tolist()
