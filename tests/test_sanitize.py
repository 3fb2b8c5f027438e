import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.sanitize import HIDDEN, excerpt, visible, without_folders


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\tb", "a\\tb"),
        ("a\rb\x00\x7f", "a\\x0db\\x00\\x7f"),
        ("\x85\x9b", "\\x85\\x9b"),
        ("abc\u202edef", "abc\\u202edef"),
        ("\u2066\u200b\ufeff\u00ad", "\\u2066\\u200b\\ufeff\\xad"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("\ud800", "\\ud800"),
        ("\ue000\U000e0041\U0010ffff", "\\ue000\\U000e0041\\U0010ffff"),
    ],
)
def test_a_character_that_could_act_is_shown_as_its_escape(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["", "plain", "Zoë 東京 😀 ∀x", "no-break\u00a0space", "back\\slash", "e\u0301", "a\nb"]
)
def test_a_text_that_only_shows_itself_is_unchanged(text):
    assert visible(text) == text


def test_line_breaks_become_what_is_asked_for():
    assert visible("a\nb\n", newline="⏎") == "a⏎b⏎"
    assert visible("a\nb", newline=" ") == "a b"


anything = st.text(alphabet=st.characters())


@given(text=anything)
def test_nothing_that_is_shown_can_act_and_showing_twice_changes_nothing(text):
    shown = visible(text)
    assert all(c == "\n" or unicodedata.category(c)[0] != "C" for c in shown)
    assert not {"\u2028", "\u2029"} & set(shown)
    assert visible(shown) == shown


@given(text=anything)
def test_a_shown_line_is_one_line(text):
    assert len(visible(text, newline=" ").splitlines()) <= 1


@pytest.mark.parametrize(
    ("line", "short"),
    [
        ("path: /data/sets/a/b.txt", "path: …/a/b.txt"),
        ("- '/home/someone/b.txt'", "- '…/b.txt'"),
        ("path: /data/sets/a/b/", "path: …/a/b/"),
        ("path: a/b/c/d", "path: a/b/c/d"),
        ("description: and/or: 1/2", "description: and/or: 1/2"),
    ],
)
def test_of_an_absolute_path_the_last_two_parts_are_published(line, short):
    assert without_folders(f"a: 1\n{line}\n") == f"a: 1\n{short}\n"


@pytest.mark.parametrize("unit", ["- /", "- /a/", "/", "- '/home/a", ": /a"])
def test_hostile_paths_are_read_once(unit):
    # Where each start of a path was followed to the end of the line, this would take hours.
    text = unit * (1_000_000 // len(unit))
    assert without_folders(text).endswith(text[-1])


def test_a_text_that_is_cut_says_so():
    assert excerpt("x" * 600) == "x" * 600
    assert excerpt("x" * 599 + " y") == "x" * 599 + "…"


def test_no_part_of_a_credential_is_left_where_a_text_is_cut():
    token = "hf_" + "aB3" * 12
    for most in range(10, 60):
        assert "hf_" not in excerpt(f"the token {token} was sold", most)
    assert excerpt(f"the token {token}") == f"the token {HIDDEN}"
