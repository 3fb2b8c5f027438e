"""The edit of documents by a model in memory, against one token at a time in float64."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tailkeep.errors import TrainingError
from tailkeep.lab.causal_lm.config import Generation
from tailkeep.lab.causal_lm.editing import edit_tokens
from tailkeep.lab.causal_lm.model import LanguageModel
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer
from tailkeep.lab.causal_lm.tokens import TokenData
from tailkeep.rules import Band, Low, Random, Sampler, ToEdit, position_uniforms
from tailkeep.rules.sampler import sample_tokens
from tailkeep.scoring.loading import load_tokenizer

# Random weights are sure of little: these flag about a third of the tokens, and what is flagged changes.
RULE = ToEdit(threshold=0.002)
CHANGING = Sampler(exclude_original=True)


def edited(network, data, *, rule=RULE, sampler=CHANGING, seed=5):
    return edit_tokens(network, data, rule=rule, sampler=sampler, seed=seed)


def distributions(network, document):
    """ln p (T - 1, V) after each token but the last, the document alone, in float64."""
    with torch.no_grad():
        logits = network(input_ids=torch.tensor(document[None].astype(np.int64))).logits[0, :-1]
    return logits.double().log_softmax(-1)


def editable(tokenizer, document):
    suppressed_ids = np.array([tokenizer.token_texts[int(token)] is None for token in document])
    return ~suppressed_ids & (np.arange(len(document)) > 0)


@pytest.mark.parametrize("sampler", [CHANGING, Sampler(), Sampler(top_k=None, max_attempts=3)])
def test_an_edit_is_that_of_each_token_alone(network, tokenizer, stories, sampler):
    result = edited(network, stories, sampler=sampler)
    allowed = torch.from_numpy(tokenizer.token_texts.allowed(tokenizer.size))
    flagged = 0
    for number, (before, after) in enumerate(zip(stories.documents, result.documents, strict=True)):
        table = distributions(network, before)
        chances = np.stack(
            [position_uniforms(5, str(number), len(before), f"draw {t}") for t in range(sampler.max_attempts)], axis=1
        )
        expected = before.copy()
        for position in np.flatnonzero(editable(tokenizer, before)):
            row = table[position - 1]
            if row[before[position]] >= np.log(RULE.threshold):
                flagged += 1
                original, chance = torch.tensor([int(before[position])]), torch.from_numpy(chances[[position]])
                expected[position] = sample_tokens(row[None], original, chance, sampler, allowed=allowed)[0].item()
        assert after.tolist() == expected.tolist()
    assert result.edits.counts.flagged == flagged > 20


def test_boundaries_and_special_tokens_are_neither_edited_nor_drawn(network, tokenizer, stories):
    result = edited(network, stories, rule=Band(low=0, high=1))
    assert result.lengths.tolist() == stories.lengths.tolist()
    for before, after in zip(stories.documents, result.documents, strict=True):
        free = editable(tokenizer, before)
        assert (before != after).tolist() == free.tolist()
        assert {before[0], before[-1]} == {tokenizer.start, tokenizer.stop}
        assert all(tokenizer.token_texts[int(token)] for token in after[free])


def test_flagged_and_changed_are_counted_apart(network, stories):
    plain, forced = edited(network, stories, sampler=Sampler()), edited(network, stories)
    assert plain.edits.counts.flagged == forced.edits.counts.flagged == forced.edits.counts.changed
    changed = int((plain.ids != stories.ids).sum())
    assert plain.edits.counts.changed == changed < plain.edits.counts.flagged
    facts, editable = plain.facts, plain.edits.counts.editable
    assert facts["changed_share"] == facts["cumulative_changed_share"] == changed / editable
    assert facts["flagged_share"] == plain.edits.counts.flagged / editable


def test_text_that_no_edit_has_touched_has_no_facts(stories):
    assert stories.facts == {}


def test_edits_of_edits_are_counted_against_the_pristine_text(network, stories):
    once = edited(network, stories)
    twice = edited(network, once, rule=Random(share=0.3), seed=6)
    lost = (twice.ids != stories.ids).sum()
    assert twice.edits.counts.lost == lost > once.edits.counts.lost
    assert twice.edits.counts.changed == (twice.ids != once.ids).sum()
    assert twice.facts["cumulative_changed_share"] == lost / once.edits.counts.editable


def test_deleting_shortens_documents_and_counts_as_lost_for_good(network, tokenizer, stories):
    rule = ToEdit(threshold=0.002, delete_below=0.0005)
    once = edited(network, stories, rule=rule)
    gone = stories.units - once.units
    assert gone == once.edits.counts.deleted > 10
    assert once.lengths.sum() == once.units
    assert len(once) == len(stories)
    assert all(document[0] == tokenizer.start and document[-1] == tokenizer.stop for document in once.documents)
    assert once.edits.counts.lost == gone + once.edits.counts.changed
    twice = edited(network, once, rule=rule, seed=6)
    gone += twice.edits.counts.deleted
    assert twice.edits.counts.pristine == once.edits.counts.pristine > twice.edits.counts.editable
    assert twice.edits.counts.lost == gone + (twice.ids != twice.edits.pristine).sum()


def test_what_a_document_becomes_does_not_hang_on_those_after_it(network, stories):
    some = edited(network, stories.take(np.arange(5)))
    assert some.ids.tolist() == edited(network, stories).ids[: some.units].tolist()


def test_an_edit_is_a_function_of_its_seed(network, stories, generators):
    one, again, other = (edited(network, stories, seed=seed).ids.tolist() for seed in (1, 1, 2))
    assert one == again != other


def test_documents_that_are_longer_than_the_model_are_edited_to_their_end(network, tokenizer, stories):
    long = TokenData.from_documents([np.concatenate([stories.documents[0][:-1]] * 20)], tokenizer)
    assert long.units > 2 * network.config.max_position_embeddings
    result = edited(network, long, rule=Random(share=0.5))
    changed = np.flatnonzero(result.ids != long.ids)
    assert changed.max() > 0.9 * long.units


def test_the_edited_text_and_its_facts_are_read_back_as_they_were_saved(network, stories, tmp_path):
    result = edited(network, stories, rule=ToEdit(threshold=0.002, delete_below=0.0005))
    result.save(tmp_path)
    again = stories.read(tmp_path)
    assert again.facts == result.facts
    assert again.ids.tolist() == result.ids.tolist()
    assert edited(network, again, seed=6).facts == edited(network, result, seed=6).facts
    lines = [json.loads(line) for line in (tmp_path / "text.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["text"] for line in lines] == [result.tokenizer.decode(document) for document in result.documents]


def test_a_part_of_edited_text_is_text(network, stories):
    result = edited(network, stories)
    assert result.take(np.arange(3)).edits is None
    assert result.concat(stories).facts == {}


def test_a_model_edits_through_its_own_method_and_stays_as_it_was(network, tokenizer, stories):
    model = LanguageModel(network.train(), tokenizer, Generation(), stories)
    result = model.edit(stories, rule=RULE, sampler=CHANGING, seed=5)
    assert network.training
    assert result.ids.tolist() == edited(network, stories).ids.tolist()


def test_a_document_of_one_token_stays(network, tokenizer, stories):
    data = TokenData.from_documents([stories.ids[:1], stories.documents[0]], tokenizer)
    result = edited(network, data)
    assert result.documents[0].tolist() == [tokenizer.start]
    assert result.edits.counts.changed > 0


def test_a_model_whose_probabilities_are_no_numbers_edits_nothing(network, stories):
    with torch.no_grad():
        network.model.embed_tokens.weight[int(stories.ids[2])] = torch.nan
    with pytest.raises(TrainingError, match="a token's log-probability is NaN"):
        edited(network, stories)


def test_an_edit_that_leaves_nothing_to_train_on_is_refused(network, hf_tokenizer, stories):
    open_ended = DocumentTokenizer(hf_tokenizer, append_eos=False)
    data = TokenData.from_documents([document[:-1] for document in stories.documents], open_ended)
    with pytest.raises(TrainingError, match="no document with more than its first token"):
        edited(network, data, rule=Low(threshold=1.0, action="delete"))


def test_a_real_prior_flags_some_of_its_stories_and_changes_fewer(real_data):
    folder = real_data / "priors" / "stories260k"
    tokenizer = DocumentTokenizer(load_tokenizer(folder), append_eos=False)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts = (real_data / "text" / "tinystories.txt").read_text(encoding="utf-8").split("<|endoftext|>")[:8]
    result = edited(
        network,
        TokenData.from_documents([tokenizer.encode(text.strip()) for text in texts], tokenizer),
        rule=ToEdit(),
        sampler=Sampler(),
    )
    facts = result.facts
    assert 0.05 < facts["flagged_share"] < 0.3
    assert facts["changed_share"] < 0.02 * facts["flagged_share"] + 0.001
