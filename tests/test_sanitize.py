import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.sanitize import visible


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
