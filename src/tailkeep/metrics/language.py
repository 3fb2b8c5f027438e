"""A panel of English: how often a text asks, hedges, connects, lists, uses the passive voice or begins alike.

Word length and type-token ratio can rise in self-training while these go (arXiv 2605.20602).

Rules: each feature is a pattern that is stated here and tested on sentences; it counts forms, not meanings. English
only: `is_english` says whether a text is covered, by the share of its words that only English has so often.
"""

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType


def _phrases(text: str) -> str:
    return "|".join(re.escape(phrase.strip()).replace(r"\ ", r"\s+") for phrase in text.split(","))


_HEDGES = """may, might, perhaps, maybe, possibly, probably, presumably, apparently, arguably, roughly, approximately,
seem, seems, seemed, appear to, appears to, appeared to, suggest, suggests, suggested, tend to, tends to, tended to,
likely, unlikely, somewhat, in general, to some extent, in my view, in our view, it is possible, could be"""
_CONNECTIVES = """however, moreover, furthermore, additionally, in addition, therefore, thus, hence, consequently,
as a result, nevertheless, nonetheless, meanwhile, similarly, likewise, in contrast, on the other hand, for example,
for instance, in conclusion, in summary, overall, finally, ultimately, in fact, indeed, instead, besides"""
_TEMPLATES = r"""\{\{[^{}\n]{1,60}\}\} | \[(?:insert|your|name|date|title|company|placeholder)\b[^\]\n]{0,60}\]
 | <(?:insert|your|name|placeholder)\b[^>\n]{0,60}> | \blorem\ ipsum\b
 | \bas\ an\ ai(?:\ language)?\ (?:model|assistant)\b
 | (?:^|\n)[\ \t]*(?:sure|certainly|absolutely|of\ course)[!,]\s+here(?:\ is|\ are|'s|’s)\b"""
_IRREGULAR = """beaten, become, begun, bent, bitten, blown, born, borne, bought, bound, broken, brought, built, burnt,
caught, chosen, cut, dealt, done, drawn, driven, eaten, felt, flown, forbidden, forgotten, fought, found, frozen, given,
grown, heard, held, hidden, hit, hung, hurt, kept, known, laid, led, left, lent, lit, lost, made, meant, met, paid, put,
read, risen, run, said, seen, sent, set, shaken, shot, shown, shut, sold, spent, spoken, split, spread, stolen, struck,
sung, sunk, sworn, taken, taught, thrown, told, torn, thought, understood, won, worn, woven, written"""
# Words in -ed after a form of `be` that are no participles.
_NO_PARTICIPLES = r"(?!(?:indeed|need|naked|sacred|wicked|red|hundred|speed|seed|feed|bed|bleed|breed|greed|creed)\b)"

_PATTERNS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "questions": re.compile(r"\?(?=[\"'”’)\]]*(?:\s|$))"),
        "parentheticals": re.compile(r"\([^()\n]{1,200}\)"),
        "passives": re.compile(
            r"\b(?:am|is|are|was|were|be|been|being)(?:\s+(?:not|never|also|often|then|always|still|been|being|\w+ly)){0,4}"
            rf"\s+{_NO_PARTICIPLES}(?:\w{{2,}}ed|{_phrases(_IRREGULAR)})\b",
            re.IGNORECASE,
        ),
        "hedges": re.compile(rf"\b(?:{_phrases(_HEDGES)})\b", re.IGNORECASE),
        "connectives": re.compile(rf"(?:^|[.!?][\"'”’)\]]*\s+|\n[ \t]*)(?:{_phrases(_CONNECTIVES)})\b", re.IGNORECASE),
        "dashes": re.compile(r"—|\s(?:–|--)\s|(?<=\w)--(?=\w)"),
        "list_markers": re.compile(r"^[ \t]*(?:[-*•]|\d{1,3}[.)])[ \t]+(?=\S)", re.MULTILINE),
        "template_markers": re.compile(_TEMPLATES, re.IGNORECASE | re.VERBOSE),
    }
)

LANGUAGE_FEATURES = (*_PATTERNS, "repeated_openings")
"""The features: all but the last per 1,000 words, the last as a share of the sentences."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SENTENCE_END = re.compile(r"[.!?][\"'”’)\]]*\s+|\n\s*\n")
_OPENING_WORDS = 2
_ENGLISH = re.compile(
    r"\b(?:the|of|and|to|that|was|for|it|with|as|his|her|he|she|on|at|by|this|had|not|are|but|from|have|they|which|you)\b",
    re.IGNORECASE,
)
MIN_ENGLISH_SHARE = 0.15


def language_features(text: str) -> dict[str, float]:
    """The features of one text by name: per 1,000 words, `repeated_openings` as a share of the sentences.

    A sentence has a repeated opening if it begins with the same two words as an earlier one of the text. Without a word
    every feature is 0.
    """
    words = sum(1 for _ in _WORD.finditer(text))
    if not words:
        return dict.fromkeys(LANGUAGE_FEATURES, 0.0)
    rates = {name: 1000 * sum(1 for _ in pattern.finditer(text)) / words for name, pattern in _PATTERNS.items()}
    return {**rates, "repeated_openings": _repeated_openings(text)}


def _repeated_openings(text: str) -> float:
    openings = []
    for sentence in _SENTENCE_END.split(text):
        words = [match[0].casefold() for _, match in zip(range(_OPENING_WORDS), _WORD.finditer(sentence), strict=False)]
        if len(words) == _OPENING_WORDS:
            openings.append(tuple(words))
    return (len(openings) - len(set(openings))) / len(openings) if openings else 0.0


def language_panel(texts: Sequence[str]) -> dict[str, float]:
    """The features, means over the `texts` that hold a word, and two of all their words: `word_length`, in characters,
    and `type_token_ratio`, different words as a share of all, which falls with the amount of text. Without a word all
    are NaN.
    """
    with_words = [text for text in texts if _WORD.search(text)]
    words = [match[0].casefold() for text in with_words for match in _WORD.finditer(text)]
    if not words:
        return dict.fromkeys((*LANGUAGE_FEATURES, "word_length", "type_token_ratio"), math.nan)
    features = [language_features(text) for text in with_words]
    return {
        **{name: math.fsum(one[name] for one in features) / len(features) for name in LANGUAGE_FEATURES},
        "word_length": sum(map(len, words)) / len(words),
        "type_token_ratio": len(set(words)) / len(words),
    }


def english_share(text: str) -> float:
    """The share of the words of `text` that are among 27 frequent ones, most of them of English alone."""
    words = sum(1 for _ in _WORD.finditer(text))
    return sum(1 for _ in _ENGLISH.finditer(text)) / words if words else 0.0


def is_english(text: str) -> bool:
    """Whether the panel covers `text`: at least 15 % of its words are those of `english_share`."""
    return english_share(text) >= MIN_ENGLISH_SHARE
