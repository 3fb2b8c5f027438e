import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from tailkeep.errors import ConfigError, InputError
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, train_tokenizer
from tailkeep.scoring.loading import load_tokenizer
from tests.lab.causal_lm.tiny import STORIES


def test_a_document_stands_between_its_start_and_its_stop(tokenizer):
    ids = tokenizer.encode("Ann saw a cat.")
    assert ids.dtype == np.int32
    assert (ids[0], ids[-1]) == (tokenizer.hf_tokenizer.bos_token_id, tokenizer.hf_tokenizer.eos_token_id)
    assert set(ids[1:-1]).isdisjoint(tokenizer.hf_tokenizer.all_special_ids)


def test_a_text_that_goes_on_has_no_stop(tokenizer):
    assert tokenizer.encode_without_eos("Ann").tolist() == tokenizer.encode("Ann")[:-1].tolist()


def test_documents_without_a_stop_token_are_open(hf_tokenizer):
    tokenizer = DocumentTokenizer(hf_tokenizer, append_eos=False)
    assert tokenizer.stop is None
    assert tokenizer.encode("Ann").tolist() == tokenizer.encode_without_eos("Ann").tolist()


def test_a_start_is_not_put_before_a_start(tokenizer):
    assert tokenizer.encode("Ann").tolist().count(tokenizer.start) == 1


@pytest.mark.parametrize("append_eos", [True, False])
def test_a_tokenizer_that_ends_texts_itself_changes_nothing(append_eos):
    plain, ending = (train_tokenizer(STORIES, vocab_size=300) for _ in range(2))
    names = [("<s>", plain.bos_token_id), ("</s>", plain.eos_token_id)]
    ending._tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=names)
    assert ending("Ann")["input_ids"][-1] == ending.eos_token_id
    one, other = DocumentTokenizer(plain, append_eos), DocumentTokenizer(ending, append_eos)
    assert one.encode("Ann saw").tolist() == other.encode("Ann saw").tolist()
    assert one.encode_without_eos("Ann saw").tolist() == other.encode_without_eos("Ann saw").tolist()


def test_a_tokenizer_without_a_start_token_has_none():
    hf_tokenizer = train_tokenizer(STORIES, vocab_size=300)
    hf_tokenizer.bos_token = None
    hf_tokenizer._tokenizer.post_processor = processors.processors.TemplateProcessing(single="$A", special_tokens=[])
    tokenizer = DocumentTokenizer(hf_tokenizer, append_eos=True)
    assert tokenizer.start is None
    assert tokenizer.encode("Ann")[0] not in hf_tokenizer.all_special_ids


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_as_it_was(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("text", ["<s>", "</s> Ann </s>", "a<pad>b", "\x1b[31m", " leading", "two  spaces .", "ï 😀"])
def test_markup_and_odd_characters_are_text(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert set(ids[1:-1]).isdisjoint(tokenizer.hf_tokenizer.all_special_ids)


def test_padding_is_silent_and_the_ends_are_not(tokenizer):
    assert tokenizer.suppressed_ids == [tokenizer.hf_tokenizer.pad_token_id]
    assert tokenizer.pad == tokenizer.hf_tokenizer.pad_token_id


def test_an_end_that_documents_do_not_use_is_silent(hf_tokenizer):
    assert hf_tokenizer.eos_token_id in DocumentTokenizer(hf_tokenizer, append_eos=False).suppressed_ids


def test_a_tokenizer_without_padding_pads_with_its_end():
    hf_tokenizer = train_tokenizer(STORIES, vocab_size=300)
    hf_tokenizer.pad_token = None
    assert DocumentTokenizer(hf_tokenizer, append_eos=True).pad == hf_tokenizer.eos_token_id
    hf_tokenizer.eos_token = None
    assert DocumentTokenizer(hf_tokenizer, append_eos=False).pad == 0


@pytest.mark.parametrize("vocab_size", [260, 300, 5000])
def test_a_trained_tokenizer_is_no_larger_than_asked_for(vocab_size):
    tokenizer = DocumentTokenizer(train_tokenizer(STORIES, vocab_size=vocab_size), append_eos=True)
    assert 259 <= tokenizer.size <= vocab_size
    assert max(tokenizer.encode("".join(STORIES))) < tokenizer.size


def test_training_is_the_same_in_every_process(tmp_path):
    code = (
        "import sys; from tailkeep.lab.causal_lm.tokenizer import train_tokenizer as train; "
        "from tests.lab.causal_lm.tiny import STORIES; train(STORIES, vocab_size=320).save_pretrained(sys.argv[1])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True, env=environment)
    train_tokenizer(STORIES, vocab_size=320).save_pretrained(tmp_path / "here")
    first, second = (tmp_path / name / "tokenizer.json" for name in ("here", "there"))
    assert first.read_bytes() == second.read_bytes()


def test_a_saved_tokenizer_reads_and_writes_as_before(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = DocumentTokenizer(load_tokenizer(tmp_path), append_eos=True)
    for text in (*STORIES[:3], "<s> naïve 😀"):
        assert loaded.encode(text).tolist() == tokenizer.encode(text).tolist()
        assert loaded.decode(loaded.encode(text)) == text
    assert (loaded.start, loaded.stop, loaded.pad, loaded.suppressed_ids) == (
        tokenizer.start,
        tokenizer.stop,
        tokenizer.pad,
        tokenizer.suppressed_ids,
    )


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds no tokenizer \(no tokenizer.json\). Save the model's own there"):
        load_tokenizer(tmp_path)
    with pytest.raises(InputError, match="holds no tokenizer"):
        load_tokenizer(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": {"type": "BPE"}}', "\x00"])
def test_a_broken_tokenizer_is_one_clear_error(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(InputError, match=r"the tokenizer cannot be read \(.*\). Save it again") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_code_in_a_tokenizer_folder_is_not_run(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": [None, "hostile.Hostile"]}
    settings["tokenizer_class"] = "Hostile"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "hostile.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Hostile: ...")
    with contextlib.suppress(InputError):
        load_tokenizer(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_real_tokenizer_gives_back_real_text(real_data):
    tokenizer = DocumentTokenizer(load_tokenizer(real_data / "priors" / "stories260k"), append_eos=False)
    text = (real_data / "text" / "tinystories.txt").read_text(encoding="utf-8")
    for story in text.split("<|endoftext|>")[:20]:
        assert tokenizer.decode(tokenizer.encode(story.strip())) == story.strip()


@pytest.mark.parametrize(("start_token", "first"), [("auto", "<s>"), ("none", None), ("</s>", "</s>")])
def test_a_document_begins_with_the_start_token_that_is_asked_for(hf_tokenizer, start_token, first):
    tokenizer = DocumentTokenizer(hf_tokenizer, append_eos=False, start_token=start_token)
    ids = tokenizer.encode("Ann saw").tolist()
    bare = hf_tokenizer("Ann saw", add_special_tokens=False)["input_ids"]
    assert ids == bare if first is None else ids == [hf_tokenizer.convert_tokens_to_ids(first), *bare]


def test_auto_puts_no_start_token_where_the_tokenizer_puts_none():
    hf_tokenizer = train_tokenizer(STORIES, vocab_size=300)
    hf_tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    tokenizer = DocumentTokenizer(hf_tokenizer, append_eos=True)
    assert hf_tokenizer.bos_token_id == 0
    assert tokenizer.start is None
    assert 0 in tokenizer.suppressed_ids
    assert tokenizer.encode("Ann")[0] != 0


def test_a_start_token_that_is_no_token_is_one_clear_error(hf_tokenizer):
    with pytest.raises(ConfigError, match=r"tokenizer\.start_token: '<go>' is not in the vocabulary"):
        _ = DocumentTokenizer(hf_tokenizer, append_eos=True, start_token="<go>").start
