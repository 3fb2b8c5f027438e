"""The Python guard of `splice`: code keeps its syntax tree; docstrings and comments may change."""

import bisect
import inspect
import random
import textwrap
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.rules import Edit, TextTokenizer, guard_python, read_token_texts, splice
from tailkeep.rules.splice import syntax_tree
from tests.rules.families import tokenizer_of

CODE = (
    'import os\n\n\ndef double(x):\n    """Twice as much."""\n    y = x * 2  # see above\n'
    '    return y\n\nprint("a", double(4))\n'
)


def edit(text, old, new, *, position=0, nth=0):
    start = -1
    for _ in range(nth + 1):
        start = text.index(old, start + 1)
    return Edit(position, start, start + len(old), old, new, 1, 2)


@pytest.mark.parametrize(
    ("old", "new"), [("above", "below"), ("Twice", "Half"), ("much.", "many"), ("# see", "#  see")]
)
def test_comments_docstrings_and_spacing_may_change(old, new):
    assert guard_python(CODE, [edit(CODE, old, new)]) == [edit(CODE, old, new)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *[("os", "io"), ("double", "treble"), ("x", "z"), ("y =", "k ="), ("2", "3"), ('"a"', '"b"'), ("*", "+")],
        *[(":", ";"), ("# see", "see"), ("return y", "y"), ('"""Twice as much."""', "x")],
    ],
)
def test_names_imports_constants_and_structure_stay(old, new):
    assert guard_python(CODE, [edit(CODE, old, new)]) == []


def test_only_the_harmful_edits_are_reverted():
    edits = [edit(CODE, "Twice", "Half"), edit(CODE, "2", "3"), edit(CODE, "above", "below"), edit(CODE, "print", "if")]
    assert guard_python(CODE, edits) == [edits[0], edits[2]]


def test_edits_that_only_work_together_stay_together():
    text = "x = (1)\n"
    edits = [edit(text, "(", ""), edit(text, ")", "")]
    assert guard_python(text, edits) == edits


def test_a_string_that_is_no_docstring_stays():
    text = 'x = 1\n"a"\n'
    assert guard_python(text, [edit(text, '"a"', '"b"')]) == []


def test_code_that_needs_no_dedent_needs_none_afterwards():
    assert guard_python("value\n", [Edit(0, 0, 5, "value", " value", 1, 2)]) == []
    assert guard_python(" value\n", [Edit(0, 0, 6, " value", "  value", 1, 2)]) != []


def test_text_that_is_not_python_is_not_guarded():
    text = "This is no code at all: it is English.\n"
    edits = [edit(text, "code", "def")]
    assert guard_python(text, edits) == edits


def test_fenced_blocks_are_guarded_on_their_own():
    text = f"Look at this:\n```python\n{CODE}```\nand this (unfinished:\n```py\nfor x in\n```\nand\n```c\nint x;\n```\n"
    edits = [
        edit(text, "Look", ":::"),
        edit(text, "def", "("),
        edit(text, "above", "below"),
        edit(text, "for", ")"),
        edit(text, "int x", "("),
    ]
    assert guard_python(text, edits) == [edits[0], *edits[2:]]


def test_an_indented_block_is_guarded_too():
    text = "- so:\n\n  ```python\n  x = 1  # one\n  y = 2\n  ```\n\n: no python\n"
    good, bad = edit(text, "one", "an"), edit(text, "2", "(")
    assert guard_python(text, [good, bad]) == [good]


def test_code_that_the_interpreter_warns_about_is_code():
    text = 'x = "\\d"  # one\n'
    assert guard_python(text, [edit(text, "x", "y"), edit(text, "one", "an")]) == [edit(text, "one", "an")]


@pytest.mark.parametrize("new", ["\0", "'\ud800'", "(" * 500, "-" * 100_000 + "1"])
def test_edits_that_the_parser_rejects_are_reverted(new):
    assert guard_python("x = 1\n", [edit("x = 1\n", "1", new)]) == []


@pytest.mark.parametrize("family", ["gpt2", "llama3", "spm"])
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.05, 0.3, 1]))
def test_guarded_code_keeps_its_tree_whatever_is_sampled(family, seed, share):
    tokenizer = tokenizer_of(family)
    token_texts, (tokens,) = read_token_texts(tokenizer), TextTokenizer(tokenizer)([CODE])
    source = random.Random(seed)
    candidates = token_texts.allowed(len(tokenizer)).nonzero()[0].tolist()
    changes = {i: source.choice(candidates) for i in range(len(tokens.ids)) if source.random() < share}
    free, guarded = (splice(CODE, tokens, changes, token_texts, guard=guard) for guard in (None, "python"))
    assert syntax_tree(guarded.text) == syntax_tree(CODE) != ""
    assert guarded.reasons - free.reasons == Counter(guard=len(free.applied) - len(guarded.applied))
    assert list(guarded.refused) == sorted(guarded.refused)


@pytest.mark.parametrize("module", [textwrap, bisect], ids=lambda module: module.__name__)
def test_a_file_of_the_standard_library_keeps_its_tree_and_some_edits(module):
    code = inspect.getsource(module)
    tokenizer = tokenizer_of("gpt2")
    token_texts, (tokens,) = read_token_texts(tokenizer), TextTokenizer(tokenizer)([code])
    source = random.Random(0)
    candidates = token_texts.allowed(len(tokenizer)).nonzero()[0].tolist()
    changes = {i: source.choice(candidates) for i in range(len(tokens.ids)) if source.random() < 0.02}
    guarded = splice(code, tokens, changes, token_texts, guard="python")
    assert syntax_tree(guarded.text) == syntax_tree(code)
    assert guarded.text != code
    assert guarded.reasons["guard"]
