"""Instruction records written as a chat model's template writes them, and start tokens of a configuration."""

import json

import pytest

from tailkeep import lab
from tailkeep.data import TextRecord
from tailkeep.errors import ConfigError, InputError
from tailkeep.lab.causal_lm.config import CausalLMArm
from tailkeep.lab.causal_lm.learner import prepare
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, train_tokenizer
from tailkeep.lab.causal_lm.tokens import TokenData, first_targets
from tailkeep.scoring.loading import load_tokenizer
from tests.lab.causal_lm.tiny import STORIES, config_tree, write_stories

TEMPLATE = (
    "{% for turn in messages %}{{ '<s>' + turn.role + '\n' + turn.content + '</s>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)
RECORD = TextRecord("A red cat.", "What did Ann see?", line=4)


def chat_tokenizer(template=TEMPLATE):
    tokenizer = train_tokenizer(STORIES, vocab_size=400)
    tokenizer.chat_template = template
    return DocumentTokenizer(tokenizer, append_eos=False, chat_template=True)


def text_of(tokenizer, ids):
    return tokenizer.hf_tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def test_the_prompt_is_the_users_turn_and_the_text_the_assistants():
    tokenizer = chat_tokenizer()
    ids, prompt_length = tokenizer.encode_record(RECORD)
    assert text_of(tokenizer, ids[:prompt_length]) == "<s>user\nWhat did Ann see?</s>\n<s>assistant\n"
    assert text_of(tokenizer, ids[prompt_length:]) == "A red cat.</s>\n"
    # The marks of turns are special tokens, not their spelling.
    assert ids.tolist().count(tokenizer.hf_tokenizer.bos_token_id) == 2


def test_only_the_answer_and_its_end_are_targets():
    tokenizer = chat_tokenizer()
    data = TokenData.from_records([RECORD], tokenizer)
    assert first_targets(data, block=len(data.ids)) == [tokenizer.encode_record(RECORD)[1]]


def test_the_ids_are_those_of_the_model_family(smollm2):
    tokenizer = load_tokenizer(smollm2)
    ids, prompt_length = DocumentTokenizer(tokenizer, append_eos=False, chat_template=True).encode_record(RECORD)
    turns = [{"role": "user", "content": RECORD.prompt}, {"role": "assistant", "content": RECORD.text}]
    assert ids.tolist() == tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    asked = tokenizer.apply_chat_template(turns[:1], tokenize=True, add_generation_prompt=True, return_dict=False)
    assert ids[:prompt_length].tolist() == asked


def test_a_record_that_spells_the_end_of_a_turn_is_refused():
    with pytest.raises(InputError, match=r"data\.path, line 5: a record spells the special token '</s>'"):
        chat_tokenizer().encode_record(TextRecord("yes</s>", "no", line=4))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "Use a tokenizer with a chat template"),
        ("{{ raise_exception('only one turn') }}", "only one turn"),
        ("{{ messages | length }}", "this template writes a prompt otherwise when an answer follows"),
    ],
)
def test_a_template_that_cannot_be_used_is_one_clear_error(template, message):
    with pytest.raises(ConfigError, match=message) as caught:
        chat_tokenizer(template).encode_record(RECORD)
    assert "\n" not in str(caught.value)


def arm(tmp_path, **tokenizer):
    tree = config_tree("")
    data = {"name": "text", "path": str(write_stories(tmp_path)), "separator": "line"}
    tree = {key: tree[key] for key in ("model", "training", "generation", "evaluation") if key in tree}
    own = {"train": {"vocab_size": 300}, **tokenizer}
    return CausalLMArm.model_validate(
        {"learner": "causal_lm", "regime": {"name": "replace"}, "data": data, "tokenizer": own, **tree}
    )


def test_the_start_token_of_a_configuration_is_what_documents_begin_with(tmp_path):
    def first(**tokenizer):
        prepared = prepare(arm(tmp_path, **tokenizer))
        return prepared.tokenizer.hf_tokenizer.convert_ids_to_tokens(int(prepared.real.documents[0][0]))

    assert first() == "<s>"
    assert first(start_token="</s>") == "</s>"
    assert first(start_token="none") not in {"<s>", "</s>"}


@pytest.mark.parametrize("key", ["append_eos", "start_token"])
def test_what_a_template_decides_is_not_set_beside_it(tmp_path, key):
    value = {"append_eos": False, "start_token": "none"}[key]
    with pytest.raises(ValueError, match=f"{key} has no effect beside chat_template"):
        arm(tmp_path, chat_template=True, **{key: value})


def test_a_template_is_for_records(tmp_path):
    with pytest.raises(
        ValueError, match=r"chat_template is for records of a prompt and a text\. Set data\.prompt_field"
    ):
        arm(tmp_path, chat_template=True)


def test_a_pretrained_chat_model_trains_on_records(network, tmp_path):
    tokenizer = chat_tokenizer()
    network.resize_token_embeddings(len(tokenizer.hf_tokenizer))
    network.save_pretrained(tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    records = [{"question": f"Who saw {number}?", "text": story} for number, story in enumerate(STORIES[:20])]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    tree = config_tree("")
    tree |= {
        "data": {"name": "text", "path": str(tmp_path / "records.jsonl"), "prompt_field": "question"},
        "model": {"name": "pretrained", "path": str(tmp_path / "model")},
        "tokenizer": {"chat_template": True},
        "training": {"block": 48, "batch": 8, "epochs": 1},
        "generations": 1,
        "device": "cpu",
    }
    lab.run(tree, tmp_path / "run")
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["held_out_nll"] > 0
