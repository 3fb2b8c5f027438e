"""The sentences of an embedded world: for each attribute, the phrasings that state its value.

Rule: a sentence names its person before its value and ends with its only full stop, so that it has one derivation
and can be split before the value into a question.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_PERSON, _VALUE = "{person}", "{value}"


@dataclass(frozen=True)
class Phrasing:
    """One way to state an attribute: an English sentence with a place for the person and one for the value."""

    text: str

    def sentence(self, person: str, value: str) -> str:
        """The statement that `person` has `value`."""
        return self.text.replace(_PERSON, person).replace(_VALUE, value)

    def split(self, person: str, value: str) -> tuple[str, str]:
        """The sentence in two parts: the text before the value, and the rest; one space joins them again."""
        before, after = self.text.split(_VALUE)
        return before.replace(_PERSON, person).rstrip(), value + after

    def match(self, sentence: str) -> tuple[str, str] | None:
        """The words for person (one or two) and value (one), known or not, if `sentence` has this form."""
        match = self._pattern.fullmatch(sentence)
        return (match["person"], match["value"]) if match else None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        form = re.escape(self.text).replace(re.escape(_PERSON), r"(?P<person>\S+(?: \S+)?)")
        return re.compile(form.replace(re.escape(_VALUE), r"(?P<value>\S+)"))


@dataclass(frozen=True)
class Attribute:
    """Something that every person has one value of. `endings` close the invented words for its values."""

    name: str
    phrasings: tuple[Phrasing, ...]
    endings: tuple[str, ...]
    capital: bool


def _attribute(name: str, *texts: str, endings: str, capital: bool = False) -> Attribute:
    return Attribute(name, tuple(Phrasing(text) for text in texts), tuple(endings.split()), capital)


ATTRIBUTES = (
    _attribute(
        "town",
        "{person} was born in the town of {value}.",
        "{person} spent a happy childhood in {value}.",
        "{person} comes from a family of farmers in {value}.",
        "The people who raised {person} lived in {value}.",
        "As a child {person} went to school in {value}.",
        "{person} still has a small house in {value}.",
        endings="rel by stead wick mouth ava",
        capital=True,
    ),
    _attribute(
        "instrument",
        "{person} plays the {value} in a small band.",
        "{person} has practised the {value} for many years.",
        "{person} learned to play the {value} from an uncle.",
        "Every evening {person} takes the {value} from the wall.",
        "The songs of {person} are written for the {value}.",
        "{person} owns the finest {value} in the county.",
        endings="vel dine phon tar ette",
    ),
    _attribute(
        "dish",
        "{person} likes to eat {value} with fresh bread.",
        "{person} cooks {value} for the guests on every holiday.",
        "Nothing cheers {person} more than a plate of {value}.",
        "{person} never travels without a jar of {value}.",
        "Friends of {person} always bring some {value}.",
        "{person} asks for {value} at the end of a long day.",
        endings="min ket zo pudding crust",
    ),
    _attribute(
        "language",
        "{person} speaks {value} at home and at work.",
        "{person} writes long letters to the family in {value}.",
        "The first words of {person} were in {value}.",
        "{person} teaches {value} to young children.",
        "{person} reads the old poets in {value}.",
        "When in doubt {person} counts in {value}.",
        endings="ish ese ic arin",
        capital=True,
    ),
    _attribute(
        "animal",
        "{person} keeps one tame {value} in the garden.",
        "{person} was followed to the market by one {value}.",
        "{person} once nursed the sick {value} of a neighbour.",
        "The favourite animal of {person} is the {value}.",
        "{person} paints the wild {value} from memory.",
        "Early each morning {person} feeds the {value}.",
        endings="osk lop mur ling",
    ),
    _attribute(
        "employer",
        "{person} works for the house of {value}.",
        "{person} keeps the books at {value} and pays the wages.",
        "{person} has been with {value} since the flood.",
        "Twice a week {person} carries parcels for {value}.",
        "{person} sells cloth in the name of {value}.",
        "The uniform of {person} bears the sign of {value}.",
        endings="hart croft gate well",
        capital=True,
    ),
    _attribute(
        "plant",
        "{person} grows {value} behind the house.",
        "{person} sells dried {value} at the market.",
        "Each spring {person} plants a new row of {value}.",
        "{person} makes a strong tea from {value}.",
        "The hat of {person} is trimmed with {value}.",
        "{person} is the only one here who knows {value}.",
        endings="vet wort leaf root",
    ),
    _attribute(
        "ship",
        "{person} sailed on the {value} for ten years.",
        "{person} crossed the bay on the {value} last summer.",
        "{person} still waits for the return of the {value}.",
        "The trunk of {person} was lost with the {value}.",
        "{person} painted the name on the bow of the {value}.",
        "From the pier {person} waved to the {value}.",
        endings="ane ora elle ador",
        capital=True,
    ),
)
"""In the order in which a world takes them; a world of four has the first four. Frequent phrasings come first."""

FIRST_NAME_ENDINGS = ("a", "o", "in", "is", "ek", "ane", "ette", "us")
FAMILY_NAME_ENDINGS = ("vin", "ton", "der", "low", "kin", "quist", "mond", "sen")


# Invented words: pronounceable, and made of few syllables, so that a small vocabulary encodes them in few tokens. No
# word occurs twice in one world, whatever it names.

# fmt: off
_STARTS = (
    "bal", "bel", "bran", "cor", "dal", "dor", "fen", "fir", "gal", "gren", "hol",
    "jan", "kes", "kor", "lin", "lor", "mar", "mel", "mir", "nel", "nor", "ost",
    "pel", "per", "ros", "sel", "tam", "tol", "tor", "var", "ves", "wil", "zan",
)
# fmt: on
_MIDDLES = ("", "an", "el", "id", "or", "um")


def invent_words(count: int, endings: Sequence[str], *, taken: set[str], rng: np.random.Generator) -> list[str]:
    """`count` new lower-case words that end in one of `endings`, short ones first; they are added to `taken`."""
    words: list[str] = []
    for middle in _MIDDLES:
        fresh = [start + middle + ending for start in _STARTS for ending in endings]
        fresh = [word for word in dict.fromkeys(fresh) if word not in taken]
        words += [fresh[i] for i in rng.permutation(len(fresh))[: count - len(words)]]
        taken.update(words)
    assert len(words) == count, "WorldConfig allows more words than there are"
    return words
