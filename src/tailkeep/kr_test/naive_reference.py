"""Naive references: what tells a true sentence from a false one without knowing the fact, n-grams or another model.

Rule: a reference never saw the sentences that are asked about. A pair of questions is kept if it is right on one of the
two and wrong on the other, or undecided on both: then it answers exactly half of all that is kept.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import log

from tailkeep.kr_test.cloze import Blank, Pair
from tailkeep.kr_test.corpus import words_of

Words = tuple[str, ...]
Margins = Callable[[Sequence[Pair]], Sequence[tuple[float, float]]]
"""For each pair the margins of its two questions: above 0 where the true sentence is found likelier."""

ORDER = 3
"""Words of the longest n-gram: two before the one that is scored."""
_BACKOFF = log(0.4)


class NGramReference:
    """Counts of n-grams of a corpus without the sentences of `pairs`, of those n-grams alone that score them.

    A word is scored by Brants et al. (2007), "stupid backoff": the relative frequency of the longest n-gram of up to
    three words that the corpus has, times 0.4 per word that was dropped, and add-one frequency of single words. Only
    the words of the entity and the two behind it are scored; all others are the same in both sentences.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._sentences: set[str] = set()
        self._grams: set[Words] = set()
        for one, other in pairs:
            self._sentences |= {one.sentence, other.sentence}
            for blank, partner in ((one, other), (other, one)):
                for entity in (blank, partner):
                    for words in _scored_grams(blank, entity.entity.text):
                        for first in range(len(words)):
                            self._grams |= {words[first:], words[first:-1]}
        self._counts: Counter[Words] = Counter()
        self._known: set[str] = set()
        self._total = 0

    def add(self, sentence: str) -> None:
        """Count the n-grams of `sentence`, unless a question is made of it."""
        if sentence in self._sentences:
            return
        words = tuple(words_of(sentence))
        self._total += len(words)
        for end in range(1, len(words) + 1):
            for size in range(1, min(ORDER, end) + 1):
                gram = words[end - size : end]
                if gram in self._grams:
                    self._counts[gram] += 1

    def margins(self, pairs: Sequence[Pair]) -> list[tuple[float, float]]:
        """The margins of both questions of each of `pairs`, in nats."""
        return [(self._margin(one, other), self._margin(other, one)) for one, other in pairs]

    def _margin(self, blank: Blank, partner: Blank) -> float:
        true, false = (self._score(blank, entity.entity.text) for entity in (blank, partner))
        return round(true - false, 9)

    def _score(self, blank: Blank, entity: str) -> float:
        return sum(map(self._log_score, _scored_grams(blank, entity)))

    def _log_score(self, gram: Words) -> float:
        """The score of the last word of `gram` after the others."""
        penalty = 0.0
        for first in range(len(gram) - 1):
            if count := self._counts[gram[first:]]:
                return penalty + log(count / self._counts[gram[first:-1]])
            penalty += _BACKOFF
        return penalty + log((self._counts[gram[-1:]] + 1) / (self._total + 1))


def _scored_grams(blank: Blank, entity: str) -> Iterator[Words]:
    """The n-grams whose last word is one of `entity`, in its place in the sentence of `blank`, or of the two behind."""
    start = blank.entity.start
    left = words_of(blank.sentence[:start])[1 - ORDER :]
    right = words_of(blank.sentence[start + len(blank.entity.text) :])[: ORDER - 1]
    words = (*left, *words_of(entity), *right)
    for end in range(len(left) + 1, len(words) + 1):
        yield words[max(0, end - ORDER) : end]


def balanced(pairs: Sequence[Pair], margins: Margins) -> tuple[list[Pair], Counter[str]]:
    """Those of `pairs` of which `margins` answers one question of two, and of how many it answers more, one, fewer.

    A question that it cannot decide counts half.
    """
    undecided, counts = [], Counter[str]()
    for pair, (first, second) in zip(pairs, margins(pairs), strict=True):
        right = _sign(first) + _sign(second)
        counts["more" if right > 0 else "fewer" if right < 0 else "one"] += 1
        if right == 0:
            undecided.append(pair)
    return undecided, counts


def _sign(margin: float) -> int:
    return (margin > 0) - (margin < 0)
