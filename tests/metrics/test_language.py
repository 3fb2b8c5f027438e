"""Each feature of the panel on sentences that have it, and on those that only look so."""

import math

import pytest

from tailkeep.metrics.language import (
    LANGUAGE_FEATURES,
    english_share,
    is_english,
    language_features,
    language_panel,
)

HAVE = {
    "questions": ["Who was there?", "“Really?” she asked.", "Is it (or was it?) true."],
    "parentheticals": ["The river (then dry) was wide.", "It rose (see below)."],
    "passives": [
        "The house was built by his uncle.",
        "They were not often seen.",
        "It has been carefully examined.",
        "She is being followed.",
        "The letter WAS written in ink.",
    ],
    "hedges": ["Perhaps he knew.", "It may rain.", "The results suggest a cause.", "He tends to win."],
    "connectives": ["However, it rained.", "It rained. Moreover, it was cold.", "Rain.\nIn addition, it was cold."],
    "dashes": ["He came—late.", "He came -- late.", "He came – late.", "He came--late."],
    "list_markers": ["- one", "Fruit:\n  * pears", "1. Begin", "2) Go on", "• one"],
    "template_markers": [
        "Dear [Name], hello.",
        "Dear {{customer}}, hello.",
        "Dear <your name here>, hello.",
        "As an AI language model, I cannot.",
        "Certainly! Here is a poem.",
        "Lorem ipsum dolor.",
    ],
}
LOOK_SO = {
    "questions": ["See x.html?page=2 for it.", "He wondered who it was."],
    "parentheticals": ["An open ( bracket.", "()"],
    "passives": ["He was ten.", "The need is great.", "There were indeed three.", "He is red.", "They had built it."],
    "hedges": ["The mighty fell.", "In May it rained on him, dismayed.".replace("May", "June")],
    "connectives": ["He was thus late.", "Overalls are blue.", "It rained, however, all day."],
    "dashes": ["A well-known man.", "1939–1945 was a war.", "It took -2 days."],
    "list_markers": ["He ran - fast.", "1.5 miles away", "-5 degrees"],
    "template_markers": ["See [1] and {x}.", "a < b and c > d", "Certainly he came."],
}


def present(text):
    return {name for name, value in language_features(text).items() if value}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in HAVE.items() for text in texts])
def test_a_feature_is_found_once_where_it_is(name, text):
    words = len(text.replace("—", " ").replace("--", " ").split())
    assert name in present(text)
    assert language_features(text)[name] <= 1000 / max(1, words - 4)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in LOOK_SO.items() for text in texts])
def test_a_feature_is_not_found_where_it_only_looks_so(name, text):
    assert name not in present(text)


def test_rates_are_per_thousand_words():
    assert language_features("Who was there? " * 3 + "He was here. " * 7)["questions"] == pytest.approx(3 / 30 * 1000)


def test_a_repeated_opening_is_the_same_two_words_as_of_an_earlier_sentence():
    text = "There was a man. There was a dog. The dog barked. THERE WAS rain."
    assert language_features(text)["repeated_openings"] == 0.5
    assert language_features("There was a man. The man left.")["repeated_openings"] == 0.0


def test_every_feature_of_nothing_is_zero():
    for text in ("", " \n", "...", "? ?", "(—)", "no"):
        assert language_features(text) == dict.fromkeys(LANGUAGE_FEATURES, 0.0)


def test_every_feature_is_claimed_here():
    assert {*HAVE, "repeated_openings"} == {*LOOK_SO, "repeated_openings"} == set(LANGUAGE_FEATURES)


def test_a_panel_is_the_mean_over_texts_and_counts_the_words_of_all():
    panel = language_panel(["Who came? Who left?", "He left.", ""])
    assert panel["questions"] == pytest.approx((1000 * 2 / 4 + 0) / 2)
    assert panel["type_token_ratio"] == pytest.approx(4 / 6)
    assert panel["word_length"] == pytest.approx((3 + 4 + 3 + 4 + 2 + 4) / 6)
    assert all(math.isnan(value) for value in language_panel(["", "..."]).values())


ENGLISH = "The whales are the largest of the animals on earth, and they live in the sea, which was not known to him."
OTHERS = {
    "German": "Die Wale sind die größten Tiere der Erde, und sie leben im Meer. Er hat es mir in der Stadt gesagt.",
    "French": "Les baleines sont les plus grands animaux de la terre, et elles vivent dans la mer, dit-il.",
    "Dutch": "De walvissen zijn de grootste dieren op aarde en ze leven in de zee, dat was hem niet bekend.",
    "Python": "def f(x):\n    return [g(y) for y in x if y is not None]\n\nclass A(B):\n    value: int = 3\n",
    "nothing": "",
}


def test_english_prose_is_covered():
    assert is_english(ENGLISH)


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_other_languages_and_code_are_not_covered(text):
    assert english_share(text) < 0.15
    assert not is_english(text)


@pytest.mark.parametrize(
    "piece", ["\n", "!", "?", "((", "being ", " quickly", '."', "was quickly ", "lyed", "- ", "a" * 9]
)
def test_a_hostile_text_is_read_in_one_pass(piece):
    # Were a pattern quadratic, this would not end.
    assert set(language_features("was" + piece * (200_000 // len(piece)) + "x")) == set(LANGUAGE_FEATURES)
