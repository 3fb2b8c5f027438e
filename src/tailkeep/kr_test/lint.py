"""Faults of a question file, shortcuts that need no knowledge, and the naive references that balance a new test.

Rules: everything in the file is looked at; a fault is reported, never repaired. A shortcut sees no corpus and no model,
and what it gets right or wrong beyond chance is no knowledge. A naive reference, n-grams or another model, never saw
the sentences that are asked about; of a pair of questions it keeps those of which it answers exactly half.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tailkeep.data import Question, parse_question, read_items
from tailkeep.errors import InputError
from tailkeep.kr_test.cloze import Blank, Pair
from tailkeep.kr_test.corpus import one_spelling, words_of
from tailkeep.metrics import Interval, binomial_interval, holm_correction, kr_accuracy
from tailkeep.optional import require, require_version

LEVEL = 0.05
"""Of all shortcuts of a test together."""
FOLDS = 5
_NEGATION = frozenset(
    [
        *("no", "not", "never", "none", "nobody", "nothing", "nor", "neither", "nowhere", "without", "cannot"),
        *("n't", "failed", "fails", "refused", "lacked", "lacks"),
    ]
)
_SHOWN = 3
ORDER = 3
"""Words of the longest n-gram: two before the one that is scored."""
_BACKOFF = log(0.4)

Words = tuple[str, ...]
Margins = Callable[[Sequence[Pair]], Sequence[tuple[float, float]]]
"""For each pair the margins of its two questions: above 0 where the true sentence is found likelier."""


@dataclass(frozen=True)
class Shortcut:
    """How one shortcut does.

    Attributes:
        name: what it looks at; it takes the sentence that has more of it.
        decided: on how many questions the two sentences differ in it.
        right: how many of these it answers rightly.
        accuracy: over all questions, where those that it cannot decide count half, with the Wilson interval.
        p_value: two-sided, exact, over the decided questions; adjusted for all shortcuts together (Holm 1979).
    """

    name: str
    decided: int
    right: int
    accuracy: Interval
    p_value: float

    @property
    def is_significant(self) -> bool:
        """Whether it differs from chance at level 0.05 for all shortcuts together."""
        return self.p_value <= LEVEL


def find_shortcuts(questions: Sequence[Question]) -> list[Shortcut]:
    """What each shortcut makes of `questions`. None can be tested with too few of them: the p-values say so.

    Raises:
        MissingPackageError: scikit-learn is not installed, or too old.
    """
    signs_by_name = {
        name: [_rule_sign(rule, question) for question in questions] for name, rule in _rules(questions).items()
    }
    signs_by_name["bag of words"] = bag_of_words_signs(questions).tolist()
    decided_and_right = {
        name: (sum(s != 0 for s in signs), sum(s > 0 for s in signs)) for name, signs in signs_by_name.items()
    }
    p_values = [float(stats.binomtest(right, n).pvalue) if n else 1.0 for n, right in decided_and_right.values()]
    accuracies = [binomial_interval(kr_accuracy(signs) * len(signs), len(signs)) for signs in signs_by_name.values()]
    return [
        Shortcut(name, *decided_and_right[name], accuracy, p)
        for name, accuracy, p in zip(decided_and_right, accuracies, holm_correction(p_values), strict=True)
    ]


def bag_of_words_signs(questions: Sequence[Question]) -> NDArray[np.int64]:
    """(n,) 1 where a classifier of words alone finds the true sentence, -1 where the false one, 0 where it sees none.

    A logistic regression on the difference of the sentences' word counts, without a constant, fitted on four fifths of
    the questions and evaluated on the rest. Questions that swap the same words are in the same fifth: one would leak
    the answer of the other.

    Raises:
        MissingPackageError: scikit-learn is not installed, or too old.
    """
    differences = [_difference(question) for question in questions]
    groups = [repr(sorted(difference)) for difference in differences]
    signs = np.zeros(len(questions), np.int64)
    if len(set(groups)) < FOLDS:
        return signs
    features: Any = require("sklearn.feature_extraction", extra="kr-test")
    linear: Any = require("sklearn.linear_model", extra="kr-test")
    selection: Any = require("sklearn.model_selection", extra="kr-test")
    require_version("scikit-learn", (1, 6), extra="kr-test", purpose="the shortcut by a bag of words")
    counts = features.DictVectorizer().fit_transform(differences)
    # A true sentence less its false twin, and the other way round, are the two classes: they are balanced by that.
    labels = np.random.default_rng(0).choice([-1, 1], len(questions))
    signed = counts.multiply(labels[:, None]).tocsr()
    for train, test in selection.GroupKFold(FOLDS, shuffle=True, random_state=0).split(signed, labels, groups):
        if len(set(labels[train].tolist())) < 2:
            continue
        fitted = linear.LogisticRegression(fit_intercept=False, max_iter=1000).fit(signed[train], labels[train])
        signs[test] = np.sign(np.round(counts[test] @ fitted.coef_[0], 9)).astype(np.int64)
    return signs


def _difference(question: Question) -> dict[str, int]:
    """How much more often each word stands in the true sentence."""
    counts = Counter(words_of(question.sentence_true))
    counts.subtract(words_of(question.sentence_false))
    return {word: count for word, count in counts.items() if count}


def _rules(questions: Sequence[Question]) -> Mapping[str, Callable[[str, str], float]]:
    """What each rule counts in (context, sentence)."""
    known = Counter(
        word
        for question in questions
        for text in (question.context, question.sentence_true, question.sentence_false)
        for word in words_of(text)
    )

    def frequency(_: str, sentence: str) -> float:
        words = words_of(sentence)
        return round(sum(log(known[word]) for word in words) / max(len(words), 1), 9)

    return {
        "words": lambda _, sentence: len(sentence.split()),
        "characters": lambda _, sentence: len(sentence),
        "negation": lambda _, sentence: sum(word in _NEGATION for word in words_of(sentence)),
        "digits": lambda _, sentence: sum(map(str.isdigit, sentence)),
        "capitals": lambda _, sentence: sum(map(str.isupper, sentence)),
        "words of the context": lambda context, sentence: len({*words_of(context)} & {*words_of(sentence)}),
        "frequent words": frequency,
    }


def _rule_sign(rule: Callable[[str, str], float], question: Question) -> int:
    true, false = (rule(question.context, text) for text in (question.sentence_true, question.sentence_false))
    return _sign(true - false)


def _sign(margin: float) -> int:
    return (margin > 0) - (margin < 0)


@dataclass(frozen=True)
class Checked:
    """What is wrong with a test; each list names the places (`FILE, item N`), with a reason where one is needed.

    Attributes:
        items: how many the file has.
        malformed: those that are no questions, among them those whose sentences are the same to the letter.
        identical: those whose sentences differ in white space, capitals or the spelling of equal numbers alone.
        repeated: those that an earlier one asks in the same words.
        leaking: those whose answer stands in the context: the true sentence itself, or all words that only it has,
            while the context lacks a word that only the false one has.
        shortcuts: of the questions that can be read.
    """

    items: int
    malformed: list[str]
    identical: list[str]
    repeated: list[str]
    leaking: list[str]
    shortcuts: list[Shortcut]

    def lines(self) -> Iterator[str]:
        """The findings in words, for a terminal."""
        yield f"{self.items:,} items"
        for name, places in (
            ("cannot be read", self.malformed),
            ("have identical sentences", self.identical),
            ("repeat an earlier one", self.repeated),
            ("leak: the answer stands in the context", self.leaking),
        ):
            more = "; ..." if len(places) > _SHOWN else ""
            yield f"{len(places):,} {name}" + (f" ({'; '.join(places[:_SHOWN])}{more})" if places else "")
        yield from shortcut_lines(self.shortcuts)


def check(path: Path) -> Checked:
    """The faults of the questions in the file at `path`.

    Raises:
        InputError: the file cannot be read, or none of its items is a question.
        MissingPackageError: scikit-learn is not installed, or too old.
    """
    malformed: list[str] = []
    located: list[tuple[str, Question]] = []
    items = read_items(path)
    for where, item in items:
        try:
            located.append((where, parse_question(item, where)))
        except InputError as error:
            malformed.append(str(error))
    if not located:
        raise InputError(f"{path}: none of its {len(items)} items is a question. The first: {malformed[0]}")
    seen: Counter[tuple[str, ...]] = Counter()
    identical, repeated, leaking = [], [], []
    for where, question in located:
        short = where.removeprefix(f"{path}, ")
        key = question_key(question)
        if is_identical(question):
            identical.append(short)
        if seen[key]:
            repeated.append(short)
        seen[key] += 1
        if leaks(question):
            leaking.append(short)
    questions = [question for _, question in located]
    return Checked(len(items), malformed, identical, repeated, leaking, find_shortcuts(questions))


def leaks(question: Question) -> bool:
    """Whether the context gives the answer away to whoever looks for the same words; see `Checked.leaking`."""
    if _stands_in(_folded(question.sentence_true), _folded(question.context)):
        return True
    context, true, false = (
        set(words_of(text)) for text in (question.context, question.sentence_true, question.sentence_false)
    )
    return bool(true - false) and true - false <= context and not false - true <= context


def _stands_in(text: str, context: str) -> bool:
    """Whether `text` stands in `context`, and not within a word: `rose` does not stand in `he arose`."""

    def joined(left: str, right: str) -> bool:
        # Scripts with cases set words apart by spaces; others may not.
        return all(letter.isdigit() or letter.lower() != letter.upper() for letter in (left, right)) if right else False

    places = [match.span() for match in re.finditer(re.escape(text), context)] if text else []
    return any(
        not (start and joined(context[start - 1], text[0])) and not joined(text[-1], context[end : end + 1])
        for start, end in places
    )


def question_key(question: Question) -> tuple[str, ...]:
    """What two questions have in common that ask the same in the same words."""
    return tuple(map(_folded, (question.context, question.sentence_true, question.sentence_false)))


def is_identical(question: Question) -> bool:
    """Whether its sentences differ in nothing but white space, capitals and the spelling of equal numbers."""
    return _folded(question.sentence_true) == _folded(question.sentence_false)


def shortcut_lines(shortcuts: Sequence[Shortcut]) -> Iterator[str]:
    """A line for each shortcut, with the accuracy of chance beside those that pass."""
    yield "shortcuts: share answered by taking the sentence with more of it (95 % CI; 0.500 is chance; ties count half)"
    for shortcut in shortcuts:
        accuracy = shortcut.accuracy
        verdict = "differs from chance" if shortcut.is_significant else "no difference from chance shown"
        yield (
            f"  {shortcut.name:<21} {accuracy.mean:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f}), "
            f"{shortcut.right:,} of {shortcut.decided:,} decided, p {shortcut.p_value:.2g}: {verdict}"
        )


def _folded(text: str) -> str:
    return " ".join(one_spelling(text).casefold().split())


# Naive references, by which build keeps pairs.


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
