"""Spans of a text that no edit may change."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.rules import Protection, protected_spans

ALL = Protection(numbers=True, entities=True, urls=True, code_fences=True, chat_tokens=True)


def protected_parts(text, **options):
    return [text[a:b] for a, b in protected_spans(text, Protection(**options))]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("in 1914 there were 1,234.5 of 3", ["1914", "1,234.5", "3"]),
        ("at -3.5e-6 m, .5 or 12 % or 7%", ["-3.5e-6", ".5", "12 %", "7%"]),
        ("on 2024-01-31 at 10:30:05.", ["2024-01-31", "10:30:05"]),
        ("0xFF and GPT2 and x2y", ["0xFF", "2", "2"]),
        ("١٢ and １２", ["١٢", "１２"]),
        ("one two, three.", []),
    ],
)
def test_numbers_are_found_whole(text, parts):
    assert protected_parts(text, numbers=True) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("see https://a.org/b?c=d#e for more", ["https://a.org/b?c=d#e"]),
        ('<a href="http://a.b/c">www.d.e/f</a>', ["http://a.b/c", "www.d.e/f"]),
        ("mail me.you+x@some.host.org now", ["me.you+x@some.host.org"]),
        ("s3://bucket/key and a: b // c", ["s3://bucket/key"]),
    ],
)
def test_addresses_are_found_whole(text, parts):
    assert protected_parts(text, urls=True) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a\n```python\nx = 1\n```\nb", ["```python\nx = 1\n```"]),
        ("~~~\n```\n~~~\nb", ["~~~\n```\n~~~"]),
        ("````\n```\nx\n````\nb", ["````\n```\nx\n````"]),
        ("a\n  ```\nnever closed\nb", ["  ```\nnever closed\nb"]),
        ("a `b` c ``` d", []),
    ],
)
def test_fenced_code_is_found_with_its_fences(text, parts):
    assert protected_parts(text, code_fences=True) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<|im_start|>user\nhello<|im_end|>\n", ["<|im_start|>user", "<|im_end|>"]),
        (
            "<|start_header_id|>assistant<|end_header_id|>\n\nyes<|eot_id|>",
            ["<|start_header_id|>assistant<|end_header_id|>", "<|eot_id|>"],
        ),
        (
            "<s>[INST] <<SYS>> be kind <</SYS>> hello [/INST] yes</s>",
            ["<s>[INST]"[:3] + "[INST]", "<<SYS>>", "<</SYS>>", "[/INST]", "</s>"],
        ),
        ("<start_of_turn>model\nyes<end_of_turn>", ["<start_of_turn>model", "<end_of_turn>"]),
        ("### Instruction:\ndo it\n### Response:\nyes", ["### Instruction:", "### Response:"]),
        ("User: a\nASSISTANT: b User: c", ["User:", "ASSISTANT:"]),
        ("a < b | c > d, x<y, if a|b", []),
    ],
)
def test_markers_of_chat_templates_are_found(text, parts):
    assert protected_parts(text, chat_tokens=True) == parts


def test_the_tokenizers_own_added_tokens_are_chat_tokens_too():
    text = "a [TURN] b [TURN_END] c"
    spans = protected_spans(text, Protection(chat_tokens=True), literals=["[TURN", "[TURN_END]", "[TURN]", " "])
    assert [text[a:b] for a, b in spans] == ["[TURN]", "[TURN_END]"]


def test_a_prompt_ends_with_prompt_until_and_a_text_without_it_is_all_prompt():
    assert protected_parts("Q: why? A: because A: so", prompt_until="A:") == ["Q: why? A:"]
    assert protected_parts("no mark here", prompt_until="A:") == ["no mark here"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("He met Ann Lee in Northern Ireland.", [" Ann Lee", " Northern Ireland"]),
        ("The dog ran. Then it slept.", []),
        ("Paris is big. He saw Paris.", ["Paris", " Paris"]),
        ("Ann Lee came.", ["Ann Lee"]),
        ("NATO met. It was the UN.", ["NATO", " UN"]),
        ("the Bank of England rose", [" Bank of England"]),
        ("by Ludwig van Beethoven", [" Ludwig van Beethoven"]),
        ("I think I'm right", []),
        ("on 3 April 1992 it cost 1,000", [" 3 April 1992", " 1,000"]),
        ("two men, three dogs and a half", ["two", " three", " half"]),
        ("\u201cThen she left,\u201d said O\u2019Neil.", [" O\u2019Neil"]),
        ("an iPhone by McDonald", [" iPhone", " McDonald"]),
        ("= = Early life = = \n He was born", []),
        ("", []),
    ],
)
def test_entities_are_names_and_numbers_with_the_space_before_them(text, parts):
    assert protected_parts(text, entities=True) == parts


def test_without_options_nothing_is_protected():
    assert protected_spans("1 https://a.b ```x``` <|im_end|>", Protection()) == []


@given(st.text(st.sampled_from("01.,-:/ \n`~<|>#aA@w[]sINSTUer_"), max_size=60))
def test_spans_lie_in_the_text_apart_and_in_order(text):
    spans = protected_spans(text, ALL)
    assert all(0 <= a < b <= len(text) for a, b in spans)
    assert all(one[1] < two[0] for one, two in pairwise(spans))


@pytest.mark.parametrize(
    "piece",
    [
        "1",
        "1,",
        "a",
        "A ",
        "A. ",
        "of A ",
        "a.",
        "a@",
        "`",
        "```\n",
        "<|",
        "<|a",
        "http",
        "[",
        "w.",
        "\uff5c",
        "<\uff5c",
    ],
)
def test_the_spans_of_a_long_repetition_are_found(piece):
    size = 400_000
    spans = protected_spans((piece * size)[:size], ALL)
    # A pattern that takes quadratic time would not come to an end here.
    assert all(0 <= a < b <= size for a, b in spans)
