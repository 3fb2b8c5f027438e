"""The Python guard of `splice`."""

import ast
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.rules import Edit, TextTokenizer, apply_edits, guard_python, read_token_texts, splice
from tests.rules.families import tokenizer_of

CODE = "def double(x):\n    y = x * 2\n    return y\n\nprint(double(4))\n"


def edit(text, old, new, *, position=0, nth=0):
    start = -1
    for _ in range(nth + 1):
        start = text.index(old, start + 1)
    return Edit(position, start, start + len(old), old, new, 1, 2)


def test_an_edit_that_leaves_python_stays_and_one_that_does_not_is_reverted():
    good, bad = edit(CODE, "2", "3"), edit(CODE, ":", ";")
    assert guard_python(CODE, [bad, good]) == [good]


def test_only_the_harmful_edits_are_reverted():
    edits = [edit(CODE, "x", "z"), edit(CODE, ":", " "), edit(CODE, "2", "3"), edit(CODE, "print", "if")]
    remaining = guard_python(CODE, edits)
    assert remaining == [edits[0], edits[2]]
    ast.parse(apply_edits(CODE, remaining))


def test_edits_that_only_work_together_stay_together():
    text = "x = (1)\n"
    edits = [edit(text, "(", "["), edit(text, ")", "]")]
    assert guard_python(text, edits) == edits


def test_code_that_needs_no_dedent_needs_none_afterwards():
    text = "value\n"
    assert guard_python(text, [Edit(0, 0, 5, "value", " other", 1, 2)]) == []
    assert guard_python(" value\n", [Edit(0, 0, 6, " value", "  other", 1, 2)]) != []


def test_text_that_is_not_python_is_not_guarded():
    text = "This is no code at all: it is English.\n"
    edits = [edit(text, "code", "def")]
    assert guard_python(text, edits) == edits


def test_fenced_blocks_are_guarded_on_their_own():
    text = f"Look at this:\n```python\n{CODE}```\nand this (unfinished:\n```py\nfor x in\n```\nand\n```c\nint x;\n```\n"
    edits = [
        edit(text, "Look", ":::"),
        edit(text, "def", "("),
        edit(text, "2", "3"),
        edit(text, "for", ")"),
        edit(text, "int x", "("),
    ]
    assert guard_python(text, edits) == [edits[0], *edits[2:]]


def test_an_indented_block_is_guarded_too():
    text = "- so:\n\n  ```python\n  x = 1\n  y = 2\n  ```\n\n: no python\n"
    good, bad = edit(text, "1", "3"), edit(text, "2", "(")
    assert guard_python(text, [good, bad]) == [good]


def test_code_that_the_interpreter_warns_about_is_code():
    text = 'x = "\\d"\n'
    assert guard_python(text, [edit(text, "x", "y")]) == [edit(text, "x", "y")]


@pytest.mark.parametrize("new", ["\0", "'\ud800'", "(" * 500, "-" * 100_000 + "1"])
def test_edits_that_the_parser_rejects_are_reverted(new):
    assert guard_python("x = 1\n", [edit("x = 1\n", "1", new)]) == []


@pytest.mark.parametrize("family", ["gpt2", "llama3", "spm"])
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.05, 0.3, 1]))
def test_guarded_code_parses_whatever_is_sampled(family, seed, share):
    tokenizer = tokenizer_of(family)
    token_texts, (tokens,) = read_token_texts(tokenizer), TextTokenizer(tokenizer)([CODE])
    source = random.Random(seed)
    candidates = token_texts.allowed(len(tokenizer)).nonzero()[0].tolist()
    changes = {i: source.choice(candidates) for i in range(len(tokens.ids)) if source.random() < share}
    free, guarded = (splice(CODE, tokens, changes, token_texts, guard=guard) for guard in (None, "python"))
    ast.parse(guarded.text)
    assert guarded.reasons - free.reasons == Counter(guard=len(free.applied) - len(guarded.applied))
    assert list(guarded.refused) == sorted(guarded.refused)
