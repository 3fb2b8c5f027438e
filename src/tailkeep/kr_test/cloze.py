"""Questions without a model: two sentences of one corpus exchange an entity, and each becomes a question.

Rule: every entity is as often the right answer as the wrong one, so nothing that is seen in the sentences alone, how
long, frequent or rare the entities are, tells true from false.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from tailkeep.data import Question
from tailkeep.kr_test.corpus import AnnotatedDocument, Entity, entities_of, one_spelling, sentences_of, words_of

Length = Callable[[str], Hashable]
"""What two sentences must share beside the lengths of their entities, such as a number of tokens."""

MIN_WORDS, MAX_WORDS = 5, 40
"""Of a sentence that a question is made of."""
_MAX_CHARACTERS = 1000
"""Of a sentence of a question or its context, four times forty words of prose: what is longer is no sentence."""
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
    all_sentences = sentences_of(document.text)
    for number in range(1, len(all_sentences)):
        sentence, before = all_sentences[number], all_sentences[max(0, number - sentences) : number]
        if any(len(piece) > _MAX_CHARACTERS for piece in (sentence, *before)):
            continue
        if not MIN_WORDS <= len(sentence.split()) <= MAX_WORDS or sentence[-1] not in ".!?" or "<unk>" in sentence:
            continue
        context = " ".join(before)
        for entity in entities_of(sentence):
            if _count(entity.text, sentence) == 1 and not _echoed(entity.text, context):
                yield Blank(document.location, context, sentence, entity)


def gather(documents: Iterable[AnnotatedDocument], *, num_questions: int, seed: int, sentences: int = 1) -> list[Blank]:
    """The blanks of as many documents as hold about forty per question of `num_questions`, sampled by `seed`.

    Documents with the smallest hash of seed and place are kept, so memory does not grow with the corpus.
    """
    pool: dict[int, tuple[str, list[Blank]]] = {}
    held, bound = 0, "g"
    for document in documents:
        rank = rank_of(seed, document.location)
        if rank >= bound:
            continue
        blanks = list(blanks_of(document, sentences=sentences))
        if blanks:
            pool[document.location] = (rank, blanks)
        held += len(blanks)
        if held > 2 * _POOL * num_questions:
            pool, held, bound = _smallest(pool, _POOL * num_questions)
    pool, _, _ = _smallest(pool, _POOL * num_questions)
    return [blank for _, blanks in sorted(pool.values(), key=lambda item: item[0]) for blank in blanks]


def pair_up(blanks: Sequence[Blank], *, seed: int, length: Length | None = None) -> list[Pair]:
    """Pairs of blanks that exchange their entities; each sentence in one at most.

    Both have the same shape (see `Entity.shape`). Within one document pairs are made first, since an entity of
    another topic is no riddle; no entity is in more than four pairs.
    """
    groups: defaultdict[tuple[Hashable, ...], list[Blank]] = defaultdict(list)
    of = None if length is None else cache(length)
    for blank in blanks:
        # Entities that are themselves uneven seldom make even sentences; trying them took most of the time.
        groups[(*blank.entity.shape, of and of(blank.entity.text))].append(blank)
    order = sorted(groups, key=lambda shape: rank_of(seed, *shape))
    pairs: list[Pair] = []
    used: set[str] = set()
    uses: Counter[str] = Counter()
    for near in (True, False):
        for shape in order:
            pairs += _pairs_in(groups[shape], used, uses, near=near, length=of)
    return sorted(pairs, key=lambda pair: rank_of(seed, pair[0].sentence, pair[1].sentence))


def questions_of(pairs: Iterable[Pair]) -> list[Question]:
    """Two questions a pair, by place."""
    questions = [question for pair in pairs for question in both_questions(pair)]
    return sorted(questions, key=lambda question: (question.location or 0, question.sentence_true))


def both_questions(pair: Pair) -> list[Question]:
    """The two questions of `pair`: each sentence is true, and false with the entity of the other."""
    one, other = pair
    return [
        Question(blank.context, blank.sentence, blank.filled(partner.entity.text), blank.location)
        for blank, partner in ((one, other), (other, one))
    ]


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
    texts = [one_spelling(blank.entity.text).casefold() for blank in (one, other)]
    return texts[0] != texts[1] and not any(
        _count(partner.entity.text, blank.sentence) or _echoed(partner.entity.text, blank.context)
        for blank, partner in ((one, other), (other, one))
    )


def _echoed(entity: str, context: str) -> bool:
    """Whether the context has a word of the entity: a reader who takes what is repeated would be right too often."""
    return not {*words_of(entity)}.isdisjoint(words_of(context))


def _even(one: Blank, other: Blank, length: Length) -> bool:
    return all(
        length(blank.sentence) == length(blank.filled(partner.entity.text))
        for blank, partner in ((one, other), (other, one))
    )


def _count(entity: str, text: str) -> int:
    return text.casefold().count(entity.casefold())


def _smallest(
    pool: Mapping[int, tuple[str, list[Blank]]], most: int
) -> tuple[dict[int, tuple[str, list[Blank]]], int, str]:
    """The documents with the smallest ranks that hold `most` blanks, how many they hold, and the rank of the next."""
    smallest: dict[int, tuple[str, list[Blank]]] = {}
    held = 0
    for location, (rank, blanks) in sorted(pool.items(), key=lambda item: item[1][0]):
        if held >= most:
            return smallest, held, rank
        smallest[location] = (rank, blanks)
        held += len(blanks)
    return smallest, held, "g"


def rank_of(seed: int, *parts: object) -> str:
    """The place of `parts` in an order by `seed`; a sample is what comes first."""
    return hashlib.blake2b(repr((seed, *parts)).encode("utf-8"), digest_size=12).hexdigest()
