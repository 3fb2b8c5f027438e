"""Whether the questions of a test can be answered without knowing anything.

Rule: a shortcut sees no corpus and no model; what it gets right beyond chance is no knowledge, and so is what it gets
wrong beyond chance, since its opposite is a shortcut too.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tailkeep.data import Question
from tailkeep.kr_test.sentences import words_of
from tailkeep.metrics import Interval, binomial_interval, holm, kr_accuracy
from tailkeep.optional import require

LEVEL = 0.05
"""Of all shortcuts of a test together."""
FOLDS = 5
_NEGATION = frozenset(
    [
        "no",
        "not",
        "never",
        "none",
        "nobody",
        "nothing",
        "nor",
        "neither",
        "nowhere",
        "without",
        "cannot",
        "n't",
        "failed",
        "fails",
        "refused",
        "lacked",
        "lacks",
    ]
)


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
    def found(self) -> bool:
        """Whether it differs from chance, at a level of .05 for all shortcuts together."""
        return self.p_value <= LEVEL


def find_shortcuts(questions: Sequence[Question], *, seed: int = 0) -> list[Shortcut]:
    """What each shortcut makes of `questions`. None can be tested with too few of them: the p-values say so.

    Raises:
        MissingPackageError: scikit-learn is not installed.
    """
    heard = {name: [_sign(rule, question) for question in questions] for name, rule in _rules(questions).items()}
    heard["bag of words"] = bag_of_words_signs(questions, seed=seed).tolist()
    counted = {name: (sum(s != 0 for s in signs), sum(s > 0 for s in signs)) for name, signs in heard.items()}
    p_values = [float(stats.binomtest(right, n).pvalue) if n else 1.0 for n, right in counted.values()]
    accuracies = [binomial_interval(kr_accuracy(signs) * len(signs), len(signs)) for signs in heard.values()]
    return [
        Shortcut(name, *counted[name], accuracy, p)
        for name, accuracy, p in zip(counted, accuracies, holm(p_values), strict=True)
    ]


def bag_of_words_signs(questions: Sequence[Question], *, seed: int = 0) -> NDArray[np.int64]:
    """(n,) 1 where a classifier of words alone finds the true sentence, -1 where the false one, 0 where it sees none.

    A logistic regression on the difference of the sentences' word counts, without a constant, fitted on four fifths of
    the questions and asked about the rest. Questions that swap the same words stand in the same fifth: seeing one
    answered tells the other.

    Raises:
        MissingPackageError: scikit-learn is not installed.
    """
    differences = [_difference(question) for question in questions]
    groups = [repr(sorted(difference)) for difference in differences]
    signs = np.zeros(len(questions), np.int64)
    if len(set(groups)) < FOLDS:
        return signs
    features: Any = require("sklearn.feature_extraction", extra="kr-test")
    linear: Any = require("sklearn.linear_model", extra="kr-test")
    selection: Any = require("sklearn.model_selection", extra="kr-test")
    counts = features.DictVectorizer().fit_transform(differences)
    # A true sentence less its false twin, and the other way round, are the two classes: they are balanced by that.
    labels = np.random.default_rng(seed).choice([-1, 1], len(questions))
    signed = counts.multiply(labels[:, None]).tocsr()
    for seen, asked in selection.GroupKFold(FOLDS, shuffle=True, random_state=seed).split(signed, labels, groups):
        if len(set(labels[seen].tolist())) < 2:
            continue
        fitted = linear.LogisticRegression(fit_intercept=False, max_iter=1000).fit(signed[seen], labels[seen])
        signs[asked] = np.sign(np.round(counts[asked] @ fitted.coef_[0], 9)).astype(np.int64)
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


def _sign(rule: Callable[[str, str], float], question: Question) -> int:
    true, false = (rule(question.context, text) for text in (question.sentence_true, question.sentence_false))
    return (true > false) - (true < false)
