"""With a start token before each block of a joined text, everything that is trained on, scored or continued has one."""

import numpy as np
import pytest

from tailkeep.errors import ConfigError
from tailkeep.lab import load
from tailkeep.lab.causal_lm.config import Generation, WindowPrompts
from tailkeep.lab.causal_lm.generation import sample_contexts
from tailkeep.lab.causal_lm.learner import sample_prompts
from tailkeep.lab.causal_lm.measures import nll_by_document
from tailkeep.lab.causal_lm.model import LanguageModel
from tailkeep.lab.causal_lm.selection import mean_surprisal
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer
from tailkeep.lab.causal_lm.tokens import TokenData, training_rows
from tests.lab.causal_lm.tiny import STORIES, config_tree

FORM = WindowPrompts(name="windows", context=6, new_tokens=4)


@pytest.fixture(scope="module")
def blocks(hf_tokenizer):
    return DocumentTokenizer(hf_tokenizer, append_eos=False, start_before="block")


@pytest.fixture(scope="module")
def text(blocks):
    return TokenData.from_documents([blocks.encode(story) for story in STORIES], blocks)


def test_the_text_itself_has_no_start_token(text, blocks):
    assert blocks.start not in text.ids


def test_rows_begin_with_it_and_every_token_is_predicted_once(text, blocks):
    rows = training_rows(text, block=8, joined=True)
    assert {int(row[0]) for row in rows} == {blocks.start}
    assert max(map(len, rows)) == 9
    assert np.concatenate([row[1:] for row in rows]).tolist() == text.ids.tolist()


def test_contexts_of_windows_begin_with_it(text, blocks, network, monkeypatch):
    model = LanguageModel(network, blocks, Generation(form=FORM), text)
    seen = []
    original = LanguageModel._continue

    def watch(self, prompts, *args, **options):
        seen.extend(prompts)
        return original(self, prompts, *args, **options)

    monkeypatch.setattr(LanguageModel, "_continue", watch)
    rewritten = model.regenerate(text, seed=0)
    assert {int(prompt[0]) for prompt in seen} == {blocks.start}
    assert len(seen[-1]) == 1 + FORM.context
    assert len(rewritten.ids) == len(text.ids)


def test_prompts_of_samples_and_of_the_search_begin_with_it(text, blocks):
    for prompts in (sample_prompts(text, samples=3, tokens=4, joined=True), sample_contexts(text, FORM, 3, seed=0)[0]):
        assert {int(prompt[0]) for prompt in prompts} == {blocks.start}


def test_the_nll_of_documents_counts_every_token(text):
    log_probs = -np.arange(len(text.ids), dtype=np.float32)
    table = nll_by_document(log_probs, text, joined=True, answers=False)
    assert table["tokens"] == text.lengths.tolist()
    assert sum(table["nll"]) == pytest.approx(float(-log_probs.astype(float).sum()))


def test_a_tokenizer_without_one_changes_nothing(hf_tokenizer):
    bare = DocumentTokenizer(hf_tokenizer, append_eos=False, start_token="none", start_before="block")
    ids = np.arange(5, dtype=np.int32)
    assert bare.begin_block(ids) is ids


def test_it_is_for_joined_text():
    tree = config_tree("stories.txt", arms={"a": {"tokenizer": {"start_before": "block"}}})
    with pytest.raises(ConfigError, match=r"start_before: block is for documents joined into one text"):
        load(tree)


def test_a_documents_surprisal_is_that_of_all_its_tokens_behind_the_start_token(text, blocks, network):
    model = LanguageModel(network, blocks, Generation(form=FORM), text)
    surprisal = mean_surprisal(model, text, block=8)
    for document, value in zip(text.documents, surprisal, strict=True):
        rows = [blocks.begin_block(document[start : start + 8]) for start in range(0, len(document), 8)]
        log_probs = np.concatenate(list(model.log_probs(rows)))
        assert len(log_probs) == len(document)
        assert value == pytest.approx(-float(log_probs.astype(np.float64).mean()), abs=1e-5)


def test_an_edit_scores_single_documents_so_it_is_refused():
    windows = {"form": {"name": "windows", "context": 6, "new_tokens": 4}}
    arm = {"tokenizer": {"start_before": "block"}, "generation": windows, "regime": {"name": "edit"}}
    with pytest.raises(ConfigError, match="the regime edit scores each by itself"):
        load(config_tree("stories.txt", arms={"a": arm}))
