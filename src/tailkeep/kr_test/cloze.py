"""Questions without a model: two sentences of one corpus exchange an entity, and each is asked for.

Rule: every entity is as often the right answer as the wrong one, so nothing that is seen in the sentences alone, how
long, frequent or rare the entities are, tells true from false.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from tailkeep.data import Question
from tailkeep.kr_test.corpus import AnnotatedDocument, Entity, entities_of, sentences_of, words_of

Length = Callable[[str], Hashable]
"""What two sentences must share beside the lengths of their entities, such as a number of tokens."""

SHORTEST, LONGEST = 5, 40
"""Words of a sentence that is asked for."""
_MOST_USES = 4
_LOOK_AHEAD = 200
_POOL = 40


@dataclass(frozen=True, slots=True)
class Blank:
    """An entity in a sentence of a document, with the sentences before it."""

    location: int
    context: str
    sentence: str
    entity: Entity

    def filled(self, text: str) -> str:
        """The sentence with `text` in the place of its entity."""
        start = self.entity.start
        return self.sentence[:start] + text + self.sentence[start + len(self.entity.text) :]


Pair = tuple[Blank, Blank]


def blanks_of(document: AnnotatedDocument, *, sentences: int = 1) -> Iterator[Blank]:
    """The blanks of `document` whose context, `sentences` sentences long at most, does not give the answer away."""
    found = sentences_of(document.text)
    for number in range(1, len(found)):
        sentence = found[number]
        if not SHORTEST <= len(sentence.split()) <= LONGEST or sentence[-1] not in ".!?" or "<unk>" in sentence:
            continue
        context = " ".join(found[max(0, number - sentences) : number])
        for entity in entities_of(sentence):
            if _count(entity.text, sentence) == 1 and not _echoed(entity.text, context):
                yield Blank(document.location, context, sentence, entity)


def gather(documents: Iterable[AnnotatedDocument], *, wanted: int, seed: int, sentences: int = 1) -> list[Blank]:
    """The blanks of as many documents as hold about forty for each question `wanted`, drawn by `seed`.

    Documents with the smallest hash of seed and place are kept, so memory does not grow with the corpus.
    """
    kept: dict[int, tuple[str, list[Blank]]] = {}
    held, bound = 0, "g"
    for document in documents:
        rank = _rank(seed, document.location)
        if rank >= bound:
            continue
        blanks = list(blanks_of(document, sentences=sentences))
        kept[document.location] = (rank, blanks)
        held += len(blanks)
        if held > 2 * _POOL * wanted:
            kept, held, bound = _smallest(kept, _POOL * wanted)
    kept, _, _ = _smallest(kept, _POOL * wanted)
    return [blank for _, blanks in sorted(kept.values(), key=lambda item: item[0]) for blank in blanks]


def pair_up(blanks: Sequence[Blank], *, wanted: int, seed: int, length: Length | None = None) -> list[Pair]:
    """Pairs of blanks that exchange their entities, at most `wanted`; each sentence in one at most.

    Both have the same shape (see `Entity.shape`). Within one document pairs are made first, since an entity of
    another topic is no riddle; no entity is in more than four pairs.
    """
    groups: defaultdict[tuple[Hashable, ...], list[Blank]] = defaultdict(list)
    of = None if length is None else cache(length)
    for blank in blanks:
        # Entities that are themselves uneven seldom make even sentences; trying them took most of the time.
        groups[(*blank.entity.shape, of and of(blank.entity.text))].append(blank)
    order = sorted(groups, key=lambda shape: _rank(seed, *shape))
    pairs: list[Pair] = []
    used: set[str] = set()
    uses: Counter[str] = Counter()
    for near in (True, False):
        for shape in order:
            pairs += _pairs_in(groups[shape], used, uses, near=near, length=of)
    return sorted(pairs, key=lambda pair: _rank(seed, pair[0].sentence, pair[1].sentence))[:wanted]


def questions_of(pairs: Iterable[Pair], *, without: frozenset[str] = frozenset()) -> list[Question]:
    """Two questions a pair, by place; a pair with a false sentence in `without` gives none."""
    asked = []
    for one, other in pairs:
        both = [
            Question(mine.context, mine.sentence, mine.filled(theirs.entity.text), mine.location)
            for mine, theirs in ((one, other), (other, one))
        ]
        if not any(question.sentence_false in without for question in both):
            asked += both
    return sorted(asked, key=lambda question: (question.location or 0, question.sentence_true))


def present(sentences: Iterable[str], documents: Iterable[AnnotatedDocument]) -> frozenset[str]:
    """Those of `sentences` that are sentences of `documents` too."""
    sought = frozenset(sentences)
    return frozenset(found for document in documents for found in sentences_of(document.text) if found in sought)


def _pairs_in(
    blanks: Sequence[Blank], used: set[str], uses: Counter[str], *, near: bool, length: Length | None
) -> Iterator[Pair]:
    for number, one in enumerate(blanks):
        if one.sentence in used or uses[one.entity.text] >= _MOST_USES:
            continue
        for other in blanks[number + 1 : number + 1 + _LOOK_AHEAD]:
            if near and other.location != one.location:
                break  # blanks of one document stand together
            if other.sentence in used or uses[other.entity.text] >= _MOST_USES:
                continue
            if _exchangeable(one, other) and (length is None or _even(one, other, length)):
                used |= {one.sentence, other.sentence}
                uses.update([one.entity.text, other.entity.text])
                yield one, other
                break


def _exchangeable(one: Blank, other: Blank) -> bool:
    return one.entity.text.casefold() != other.entity.text.casefold() and not any(
        _count(theirs.entity.text, mine.sentence) or _echoed(theirs.entity.text, mine.context)
        for mine, theirs in ((one, other), (other, one))
    )


def _echoed(entity: str, context: str) -> bool:
    """Whether the context has a word of the entity: a reader who takes what is repeated would be right too often."""
    return not {*words_of(entity)}.isdisjoint(words_of(context))


def _even(one: Blank, other: Blank, length: Length) -> bool:
    return all(
        length(mine.sentence) == length(mine.filled(theirs.entity.text))
        for mine, theirs in ((one, other), (other, one))
    )


def _count(entity: str, text: str) -> int:
    return text.casefold().count(entity.casefold())


def _smallest(
    kept: Mapping[int, tuple[str, list[Blank]]], most: int
) -> tuple[dict[int, tuple[str, list[Blank]]], int, str]:
    """The documents with the smallest ranks that hold `most` blanks, how many they hold, and the rank of the next."""
    chosen: dict[int, tuple[str, list[Blank]]] = {}
    held = 0
    for location, (rank, blanks) in sorted(kept.items(), key=lambda item: item[1][0]):
        if held >= most:
            return chosen, held, rank
        chosen[location] = (rank, blanks)
        held += len(blanks)
    return chosen, held, "g"


def _rank(seed: int, *parts: object) -> str:
    return hashlib.blake2b(repr((seed, *parts)).encode("utf-8"), digest_size=12).hexdigest()
