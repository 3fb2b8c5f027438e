import re

import pytest

from tailkeep.data import wikitext_form


@pytest.mark.parametrize(
    ("plain", "form"),
    [
        ("It is a tactical role-playing game.", "It is a tactical role @-@ playing game ."),
        ("It sold 1,000 copies, or 2.5 % more.", "It sold 1 @,@ 000 copies , or 2 @.@ 5 % more ."),
        ("The game's theme (lit. song) isn't by", "The game 's theme ( lit . song ) isn 't by"),
        ("Sega's May.", "Sega 's May ."),
        ("The players' \"Nameless\" unit.", "The players ' \" Nameless \" unit ."),
        ("'The Nameless' won.", "' The Nameless ' won ."),
        ("He said \"no.\"", "He said \" no . \""),
        ("Mr. J. Smith of the U.S. Army left St. Louis.", "Mr. J. Smith of the U.S. Army left St. Louis ."),
        ("Sega and Media.Vision made it ; see 3:2.", "Sega and Media.Vision made it ; see 3 : 2 ."),
        ("O'Connell met the d'Este.", "O 'Connell met the d 'Este ."),
        ("", ""),
    ],
)  # fmt: skip
def test_plain_text_is_tokenized_like_wikitext(plain, form):
    assert wikitext_form(plain) == form


def test_text_in_the_form_stays_as_it_is():
    text = "Kelly 's 1 @,@ 000 role @-@ playing games ( 2 @.@ 5 % ) sold . <unk> isn 't \" here \" ."
    assert wikitext_form(text) == text


def test_only_white_space_and_separators_are_added():
    plain = "A half-hearted \"yes\" (1,234.5) - isn't it? St. John's, U.S.A.; etc."
    bare = re.sub(r"\s", "", re.sub(r"@([-,.])@", r"\1", wikitext_form(plain)))
    assert bare == re.sub(r"\s", "", plain)
