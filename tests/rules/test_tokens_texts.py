"""The text of each token id in the middle of a document."""

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from tailkeep.errors import InputError
from tailkeep.rules import read_token_texts
from tests.rules.families import FAMILIES, LOSSLESS, SPECIAL, tokenizer_of


@pytest.fixture(params=FAMILIES)
def tokenizer(request):
    return tokenizer_of(request.param)


@pytest.fixture
def token_texts(tokenizer):
    return read_token_texts(tokenizer)


def test_every_token_text_is_complete_text(token_texts):
    for text in filter(None, token_texts.texts):
        assert "\ufffd" not in text
        text.encode()


def test_special_and_added_tokens_have_no_text(tokenizer, token_texts):
    for name in [*SPECIAL, "[added]"]:
        token = tokenizer.convert_tokens_to_ids(name)
        assert token in token_texts.special
        assert token_texts[token] is None


def test_an_id_beyond_the_tokenizer_has_no_text(tokenizer, token_texts):
    assert token_texts[len(tokenizer)] is None
    assert not token_texts.allowed(len(tokenizer) + 64)[len(tokenizer) :].any()
    assert len(token_texts.allowed(10)) == 10


def test_the_allowed_ids_are_those_with_a_text(tokenizer, token_texts):
    allowed = token_texts.allowed(len(tokenizer))
    assert allowed.tolist() == [text is not None for text in token_texts.texts]
    assert allowed.sum() > 300


def test_ids_that_would_break_a_line_can_be_forbidden():
    token_texts = read_token_texts(tokenizer_of("gpt2"))
    forbidden = [
        token_texts.texts[i]
        for i in (token_texts.allowed(5000) & ~token_texts.allowed(5000, without="\n\r")).nonzero()[0]
    ]
    assert "\n" in forbidden
    assert all("\n" in text or "\r" in text for text in forbidden)


@pytest.mark.parametrize(
    ("family", "token", "text"),
    [
        ("gpt2", "Ġthe", " the"),
        ("gpt2", "Ã", None),
        ("llama3", "Ċ", "\n"),
        ("spm", "▁the", " the"),
        ("spm", "▁", " "),
        ("spm", "<0xC3>", None),
        ("spm", "<0x41>", None),
        ("unigram", "▁", " "),
        ("wordpiece", "the", " the"),
        ("wordpiece", "##ing", "ing"),
        ("wordpiece", ",", ","),
    ],
)
def test_the_token_text_is_the_text_that_an_id_adds_to_a_text(family, token, text):
    tokenizer = tokenizer_of(family)
    token_id = tokenizer.convert_tokens_to_ids(token)
    assert token_id != tokenizer.unk_token_id
    assert read_token_texts(tokenizer)[token_id] == text


@pytest.mark.parametrize("family", LOSSLESS)
def test_texts_of_a_lossless_tokenizer_add_up_to_the_text(family):
    tokenizer, text = tokenizer_of(family), "the girl found it, and she was happy. once upon a time"
    token_texts = read_token_texts(tokenizer)
    ids = tokenizer(" " + text if family != "spm" else text)["input_ids"]
    assert "".join(token_texts[i] for i in ids) == " " + text


def test_the_fingerprint_is_that_of_the_tokenizer_not_of_its_last_call(tokenizer, tmp_path):
    before = read_token_texts(tokenizer).fingerprint
    tokenizer.save_pretrained(tmp_path)
    copy = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert read_token_texts(copy).fingerprint == before
    copy("a text", truncation=True, max_length=2)
    assert read_token_texts(copy).fingerprint == before
    copy.add_tokens(["[more]"])
    assert read_token_texts(copy).fingerprint != before


def test_tokenizers_differ_in_their_fingerprints():
    assert len({read_token_texts(tokenizer_of(family)).fingerprint for family in FAMILIES}) == len(FAMILIES)


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(InputError, match=r"object is not a fast tokenizer.*tokenizer\.json"):
        read_token_texts(object())


def test_a_tokenizer_that_cannot_spell_a_letter_is_refused():
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "hello": 1}, unk_token="<unk>"))
    with pytest.raises(InputError, match="single letter"):
        read_token_texts(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))


def test_an_id_that_changes_the_text_before_it_has_no_text():
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 2, "c": 3}, unk_token="<unk>"))
    backend.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace("ab", "A")])
    token_texts = read_token_texts(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
    assert token_texts.texts == (None, "a", None, "c")
