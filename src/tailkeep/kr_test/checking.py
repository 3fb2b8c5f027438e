"""The faults of a question file. Rule: everything in the file is looked at; a fault is told, never mended."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tailkeep.data import Question, parse_question, read_items
from tailkeep.errors import InputError
from tailkeep.kr_test.sentences import words_of
from tailkeep.kr_test.shortcuts import Shortcut, find_shortcuts

_SHOWN = 3


@dataclass(frozen=True)
class Checked:
    """What is wrong with a test; each list names the places (`FILE, item N`), with a reason where one is needed.

    Attributes:
        items: how many the file has.
        malformed: those that are no questions, among them those whose sentences are the same to the letter.
        identical: those whose sentences differ in white space or capitals alone.
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


def check(path: Path, *, seed: int = 0) -> Checked:
    """The faults of the questions in the file at `path`; `seed` is that of the bag-of-words classifier's folds.

    Raises:
        InputError: the file cannot be read, or none of its items is a question.
        MissingPackageError: scikit-learn is not installed.
    """
    malformed: list[str] = []
    placed: list[tuple[str, Question]] = []
    items = read_items(path)
    for where, item in items:
        try:
            placed.append((where, parse_question(item, where)))
        except InputError as error:
            malformed.append(str(error))
    if not placed:
        raise InputError(f"{path}: none of its {len(items)} items is a question. The first: {malformed[0]}")
    seen: Counter[tuple[str, ...]] = Counter()
    identical, repeated, leaking = [], [], []
    for where, question in placed:
        short = where.removeprefix(f"{path}, ")
        key = tuple(map(_folded, (question.context, question.sentence_true, question.sentence_false)))
        if key[1] == key[2]:
            identical.append(short)
        if seen[key]:
            repeated.append(short)
        seen[key] += 1
        if leaks(question):
            leaking.append(short)
    questions = [question for _, question in placed]
    return Checked(len(items), malformed, identical, repeated, leaking, find_shortcuts(questions, seed=seed))


def leaks(question: Question) -> bool:
    """Whether the context gives the answer away to whoever looks for the same words; see `Checked.leaking`."""
    if _folded(question.sentence_true) in _folded(question.context):
        return True
    context, true, false = (
        set(words_of(text)) for text in (question.context, question.sentence_true, question.sentence_false)
    )
    return bool(true - false) and true - false <= context and not false - true <= context


def shortcut_lines(shortcuts: Sequence[Shortcut]) -> Iterator[str]:
    """A line for each shortcut, with the accuracy of chance beside those that pass."""
    yield "shortcuts: share answered by taking the sentence with more of it (.500 is chance; ties count half)"
    for shortcut in shortcuts:
        accuracy = shortcut.accuracy
        verdict = "differs from chance" if shortcut.found else "no difference from chance shown"
        yield (
            f"  {shortcut.name:<21} {accuracy.mean:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f}), "
            f"{shortcut.right:,} of {shortcut.decided:,} decided, p {shortcut.p_value:.2g}: {verdict}"
        )


def _folded(text: str) -> str:
    return re.sub(r"\s+", " ", text.casefold()).strip()
