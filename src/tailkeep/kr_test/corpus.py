"""The documents of a corpus with their locations, their sentences, and the entities that can be exchanged.

Rule: a location is the line of the document, from 0, where the corpus is one file that has lines, as in the
laboratory; else its number over all inputs. A sentence stands in the document as it is, plain or in a token form such
as WikiText's.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tailkeep.data import ABBREVIATIONS
from tailkeep.data.corpus import Layout, Rejected, check_layout_has_effect, find_shards, read_shard
from tailkeep.errors import InputError


@dataclass(frozen=True, slots=True)
class AnnotatedDocument:
    """A text and its place: its first line, from 0, in a corpus of one file that has lines, else its number."""

    location: int
    text: str


def read_corpus(
    inputs: Sequence[str], layout: Layout, *, reject: Callable[[Rejected], None] | None = None
) -> Iterator[AnnotatedDocument]:
    """The documents of `inputs`, shard after shard by name.

    Args:
        inputs: files, folders or globs.
        layout: where the documents are.
        reject: takes the documents that cannot be read; without it, the first of them is an error.

    Raises:
        ConfigError: a key of `layout` has no effect on these files.
        InputError: nothing is there, or a document cannot be read and `reject` is None.
    """
    offset = 0
    shards = find_shards(inputs, layout)
    check_layout_has_effect(layout, shards)
    for shard in shards:
        row = -1
        for item in read_shard(shard, layout):
            row = item.row
            if isinstance(item, Rejected):
                if reject is None:
                    raise InputError(f"{item.where}: {item.reason}. Repair it, or give --on-error skip.")
                reject(item)
                continue
            place = offset + row if item.line is None or len(shards) > 1 else item.line - 1
            yield AnnotatedDocument(place, "\n".join(item.texts.values()))
        offset += row + 1


Kind = Literal["year", "number", "month", "weekday", "acronym", "name"]

_BREAK = re.compile(r"(?<=[.!?])(?: ?[\"'”’)\]])*\s+(?=[\"'“‘(\[]*\s?[A-Z0-9])|\n+")
_MONTHS = frozenset(
    [
        *("January", "February", "March", "April", "May", "June"),
        *("July", "August", "September", "October", "November", "December"),
    ]
)
_WEEKDAYS = frozenset(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"])
_NAME_WORD = r"[^\W\d_a-zß-öø-ÿ](?:\w|[-.]\w|['’](?!s\b)\w)*"
_NUMBER = r"\d+(?:(?:[.,]| @[.,]@ )\d+)*"
_ENTITY = re.compile(
    rf"(?<![\w@.,'’/-])(?:(?P<number>{_NUMBER})|(?P<name>{_NAME_WORD}(?: {_NAME_WORD})*))(?![\w@/-]| [@/])"
)
_SPELLED_NUMBER = re.compile(rf"(?:[$€£¥] ?|(?<![\w.,]))({_NUMBER})(?!\w)")
_GROUP = 3
_YEAR = re.compile(r"1\d{3}|20\d{2}")
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SHORT_NOT, _NOT = re.compile(r"n ?['’]t\b"), "n_t"
# Words whose capital at the start of a sentence is not that of a name, so that a name can follow.
_OPENERS = (
    "a|after|all|although|an|and|as|at|because|before|both|but|by|during|for|from|if|in|like|many|most|near|of|on|"
    "since|some|that|the|this|to|under|until|when|where|while|with"
)
_OPENING = re.compile(rf"[\"'“‘(\[ ]*(?:{_OPENERS})\b", re.IGNORECASE)
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True)
class Entity:
    """What stands at `start` of a sentence: its kind, its text, and the word before it in small letters."""

    kind: Kind
    start: int
    text: str
    before: str

    @property
    def shape(self) -> tuple[str, ...]:
        """What two entities share that can stand for each other: kind, words and their lengths in all, the word before.

        Of a number also where its digits are, so that `1,200` is never swapped for `12.50`.
        """
        digits = re.sub(r"\d", "0", self.text) if self.kind == "number" else ""
        return (self.kind, str(len(self.text.split())), str(len(self.text)), digits, self.before)


def sentences_of(text: str) -> list[str]:
    """The sentences of `text` in their order, without white space around them."""
    sentences, start = [], 0
    for gap in _BREAK.finditer(text):
        end = gap.end() - len(gap[0]) + len(gap[0].rstrip())
        if "\n" not in gap[0] and _goes_on(text[max(start, gap.start() - _WINDOW) : gap.start()]):
            continue
        sentences.append(text[start:end].strip())
        start = gap.end()
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if sentence]


def entities_of(sentence: str) -> Iterator[Entity]:
    """The entities of `sentence` that can be swapped: never the first word, which is a capital for another reason."""
    opening, first = _OPENING.match(sentence), _LETTER_OR_DIGIT.search(sentence)
    for match in _ENTITY.finditer(sentence, opening.end() if opening else 0):
        start = match.start()
        before = sentence[max(0, start - _WINDOW) : start].split()
        if not before or first is None or first.start() >= start or before[-1][-1] in ".!?@/-":
            continue
        yield Entity(_kind_of(match), start, match[0], before[-1].lower())


def words_of(text: str) -> list[str]:
    """The words of `text` in small letters, a negation such as `n't` as one of its own, numbers in one spelling."""
    plain = _SHORT_NOT.sub(f" {_NOT} ", one_spelling(text).casefold())
    return ["n't" if word == _NOT else word for word in _WORD.findall(plain)]


def one_spelling(text: str) -> str:
    """`text` with equal numbers spelled equally: `1,000`, `$1000`, `1 @,@ 000` and `1000.00` become `1000`.

    A comma before three digits groups thousands, else it is a decimal point, as the only full stop is. What has more of
    them, such as a date, stays as it is, and so do the units behind a number.
    """
    return _SPELLED_NUMBER.sub(lambda match: _plain_number(match[1]), text)


def _plain_number(number: str) -> str:
    plain = number.replace(" @", "").replace("@ ", "")
    whole, dot, fraction = plain.partition(".")
    groups = whole.split(",")
    if not set(".,").isdisjoint(fraction):
        return number
    if all(len(group) == _GROUP for group in groups[1:]):
        whole = "".join(groups)
    elif len(groups) == 2 and not dot:
        whole, fraction = groups
    else:
        return number
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


_WINDOW = 64
"""So many characters before a gap or an entity decide; no abbreviation with its brackets and quotes is longer."""


def _goes_on(piece: str) -> bool:
    """Whether the full stop at the end of `piece` belongs to an abbreviation or an initial."""
    words = piece.split()
    if not words or not piece.endswith(".") or len(words[-1]) < 2:
        return False
    stem = words[-1][:-1].lstrip("(\"'“‘[")
    return stem in ABBREVIATIONS or (len(stem) == 1 and stem.isupper())


def _kind_of(match: re.Match[str]) -> Kind:
    text = match[0]
    if match["number"]:
        return "year" if _YEAR.fullmatch(text) else "number"
    if text in _MONTHS:
        return "month"
    if text in _WEEKDAYS:
        return "weekday"
    return "acronym" if len(text) > 1 and text.isupper() else "name"
