"""Training text as an outside model has edited or written it, whose tokenizer is not the trained model's."""

import numpy as np
import pytest

from tailkeep.data import TextRecord
from tailkeep.errors import InputError
from tailkeep.lab.causal_lm.data_config import ExternalEdit, ExternalText
from tailkeep.lab.causal_lm.editing import (
    EditSettings,
    TokenEditor,
    edit_records,
    edit_tokens,
    find_gaps,
    generate_records,
    load_external,
    random_actions,
)
from tailkeep.lab.causal_lm.tokens import TokenData, first_targets, training_rows
from tailkeep.rules import Action, Low, Random, Sampler, ToEdit
from tailkeep.scoring.split_model import SplitModel
from tests.lab.causal_lm.tiny import STORIES

RECORDS = [TextRecord(text) for text in STORIES]
PROMPTED = [TextRecord(text, f"What of number {number}?") for number, text in enumerate(STORIES)]
# Random weights are sure of little: these flag about a third of the tokens, and what is flagged changes.
CHANGING = ExternalEdit(rule=ToEdit(threshold=0.002), sampler=Sampler(exclude_original=True))


@pytest.fixture(scope="module")
def external(model_folder):
    return load_external(model_folder, device="cpu")


def test_an_edit_of_text_is_that_of_its_tokens(external, weights, tokenizer, stories):
    result, counts = edit_records(external, RECORDS, CHANGING, seed=5)
    tokens = edit_tokens(weights, stories, rule=CHANGING.rule, sampler=CHANGING.sampler, seed=5)
    # The stories' own tokens end with a stop token, which no edit touches.
    assert [record.text for record in result] == [tokenizer.decode(document) for document in tokens.documents]
    assert (counts.flagged, counts.changed) == (tokens.edits.counts.flagged, tokens.edits.counts.changed)
    assert counts.editable == tokens.edits.counts.editable


def test_an_edit_that_changes_nothing_leaves_every_character(external):
    result, counts = edit_records(external, RECORDS, ExternalEdit(), seed=5)
    assert result == RECORDS
    assert counts.changed == counts.deleted == 0 < counts.editable


def test_what_becomes_of_a_document_depends_on_the_seed_and_not_on_the_others(external):
    first, _ = edit_records(external, RECORDS, CHANGING, seed=5)
    member_arm, _ = edit_records(external, RECORDS[:1], CHANGING, seed=5)
    again, _ = edit_records(external, RECORDS, CHANGING, seed=6)
    assert member_arm == first[:1]
    assert again != first


def test_a_prompt_is_read_and_never_edited(external):
    everything = ExternalEdit(rule=Random(share=1.0), sampler=Sampler(exclude_original=True))
    result, counts = edit_records(external, PROMPTED, everything, seed=5)
    assert [record.prompt for record in result] == [record.prompt for record in PROMPTED]
    assert all(after.text != before.text for before, after in zip(PROMPTED, result, strict=True))
    assert counts.editable == counts.changed
    # The same answers without their questions are judged otherwise.
    assert edit_records(external, RECORDS, CHANGING, seed=5)[0] != [
        TextRecord(record.text) for record in edit_records(external, PROMPTED, CHANGING, seed=5)[0]
    ]


def test_the_control_draws_as_many_tokens_anew_but_others(external):
    sure, counts = edit_records(external, RECORDS, CHANGING, seed=5)
    any_, control = edit_records(external, RECORDS, CHANGING.model_copy(update={"control": "random"}), seed=5)
    assert control.flagged == counts.flagged == control.changed > 20
    assert any_ != sure


def test_the_control_flags_likely_and_unlikely_tokens_alike(external, weights, stories):
    editor = TokenEditor(
        stories, SplitModel(weights), EditSettings(CHANGING.rule, CHANGING.sampler, 5, random_control=True)
    )
    scored = editor.score()
    flagged = np.concatenate([one.log_probs[one.positions] for one in scored])
    sure = (flagged >= np.log(CHANGING.rule.threshold)).mean()
    editable = np.concatenate([one.log_probs[1:-1] for one in scored])
    assert sure == pytest.approx((editable >= np.log(CHANGING.rule.threshold)).mean(), abs=0.1)


def test_random_actions_are_as_many_and_on_editable_tokens():
    editable = np.array([True, False, True, True, False])
    numbers = np.array([0.5, 0.0, 0.9, 0.1, 0.2])
    actions = np.array([Action.KEEP, Action.KEEP, Action.RESAMPLE, Action.DELETE, Action.KEEP], np.int8)
    control = random_actions(actions, editable, numbers)
    assert control.tolist() == [Action.DELETE, Action.KEEP, Action.KEEP, Action.RESAMPLE, Action.KEEP]
    assert not random_actions(np.zeros(5, np.int8), editable, numbers).any()


def test_the_control_deletes_as_many_tokens_but_others(external):
    delete = ExternalEdit(rule=Low(threshold=0.002, action="delete"))
    shorter, counts = edit_records(external, RECORDS, delete, seed=5)
    other, control = edit_records(external, RECORDS, delete.model_copy(update={"control": "random"}), seed=5)
    assert control.deleted == counts.deleted > 0 == control.changed
    assert [record.text for record in other] != [record.text for record in shorter]


def test_a_rule_that_deletes_shortens_the_text_and_is_counted(external):
    delete = ExternalEdit(rule=Low(threshold=0.002, action="delete"))
    result, counts = edit_records(external, RECORDS, delete, seed=5)
    assert counts.deleted == counts.lost > 0 == counts.changed
    assert sum(len(record.text) for record in result) < sum(map(len, STORIES))


@pytest.mark.parametrize("prompt_tokens", [0, 3])
def test_written_text_begins_as_the_real_one_and_has_as_many_tokens(external, tokenizer, prompt_tokens):
    choice = ExternalText(prompt_tokens=prompt_tokens, batch=16)
    pieces = [find_gaps(external, 0, record, choice) for record in RECORDS]
    assert [sum(len(piece.prefix) + piece.missing for piece in result) + 1 for result in pieces] == [
        len(tokenizer.encode_without_eos(text)) for text in STORIES
    ]
    result = generate_records(external, RECORDS, choice, seed=5)
    begun = [tokenizer.decode(tokenizer.encode_without_eos(text)[: 1 + prompt_tokens]) for text in STORIES]
    assert all(record.text.startswith(start) for record, start in zip(result, begun, strict=True))
    assert (
        result
        == generate_records(external, RECORDS, choice, seed=5)
        != generate_records(external, RECORDS, choice, seed=6)
    )


def test_a_document_longer_than_the_model_is_written_in_pieces(external, tokenizer):
    long = TextRecord(" ".join(STORIES))
    pieces = find_gaps(external, 0, long, ExternalText(prompt_tokens=4))
    assert len(pieces) > 2
    assert all(len(piece.start) + piece.missing <= external.model.max_positions for piece in pieces)
    assert (
        sum(len(piece.prefix) + piece.missing for piece in pieces)
        == len(tokenizer.encode_without_eos(long.full_text)) - 1
    )
    assert all(piece.start[0] == tokenizer.start for piece in pieces)


def test_a_short_start_with_much_to_write_is_in_no_batch_with_a_long_one(external, tokenizer):
    """Each fits into the model alone; written together, the long start would be continued beyond its last position."""
    positions, words = external.model.max_positions, " ".join(STORIES).split()
    long_prompt = TextRecord("a cat", prompt=" ".join(words[: positions // 2]))
    short_prompt = TextRecord(" ".join(words[: positions // 2]), prompt="Ann saw")
    choice = ExternalText(prompt_tokens=0, batch=2)
    gaps = [find_gaps(external, 0, record, choice)[0] for record in (long_prompt, short_prompt)]
    assert len(gaps[0].start) + gaps[1].missing > positions
    written = generate_records(external, [long_prompt, short_prompt], choice, seed=5)
    assert [bool(record.text) for record in written] == [True, True]


def test_a_written_answer_stands_behind_the_question(external, tokenizer):
    choice = ExternalText(prompt_tokens=0)
    for number, record in enumerate(PROMPTED):
        (piece,) = find_gaps(external, number, record, choice)
        assert tokenizer.decode(piece.start) == record.prompt + "\n"
        assert not len(piece.prefix)
    assert [record.prompt for record in generate_records(external, PROMPTED, choice, seed=5)] == [
        record.prompt for record in PROMPTED
    ]


def test_only_what_stands_behind_a_prompt_is_a_target(tokenizer):
    data = TokenData.from_records(PROMPTED, tokenizer)
    rows, firsts = training_rows(data, block=8, joined=False), first_targets(data, block=8)
    learnt = [row[first:] for row, first in zip(rows, firsts, strict=True)]
    answers = [document[prompt:] for document, prompt in zip(data.documents, data.prompts, strict=True)]
    assert np.concatenate(learnt).tolist() == np.concatenate(answers).tolist()
    assert [tokenizer.decode(answer) for answer in answers] == STORIES


def test_without_prompts_every_token_but_a_documents_first_is_a_target(tokenizer, stories):
    rows, firsts = training_rows(stories, block=8, joined=False), first_targets(stories, block=8)
    assert firsts == [1] * len(rows)


def test_a_folder_without_a_tokenizer_is_refused(weights, tmp_path):
    weights.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="holds no tokenizer"):
        load_external(tmp_path, device="cpu")
