"""The knowledge-retention test of a recursion: the questions, the part of the real data each is about, the scores.

Rule: the primary score is ForTIFAI's (arXiv 2509.08972), the mean over the common length, with sum and full mean beside
it; all models of a recursion are scored on the same questions.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.data import Form, Question, articles_of, format_question
from tailkeep.errors import InputError
from tailkeep.lab.causal_lm.dataset import DocumentLines
from tailkeep.lab.causal_lm.tokenizer import Ids
from tailkeep.lab.protocols import Measurement
from tailkeep.metrics import (
    KRMargins,
    KRRow,
    kr_accuracy,
    kr_compare,
    kr_margins,
    kr_parts,
    kr_rows,
    kr_standardised_margin,
)
from tailkeep.scoring import encode_question

Encode = Callable[[str], Ids]
LogProbs = Callable[[Sequence[Ids]], Sequence[NDArray[np.float32]]]
"""Rows of token ids -> ln p of every token of each row but the first."""

STRADDLING, OUTSIDE = -1, -2
"""In place of a fraction: the source spans more than one, or is not among the real documents."""


@dataclass(frozen=True)
class KREvaluator:
    """The questions of a file, and the form in which they are scored.

    `fractions` (questions,): the fraction of the real data with the question's source, or `STRADDLING`, or `OUTSIDE`,
    whose questions are not scored; 0 for all others where the data arrive at once. None where the questions have no
    locations; then all are scored. Scores are given by fraction as well where the data arrive in `parts`.
    """

    questions: Sequence[Question] = ()
    form: Form = "plain"
    fractions: NDArray[np.int64] | None = None
    parts: bool = True

    def measure(self, log_probs: LogProbs, encode: Encode) -> Measurement:
        """`kr_accuracy` and its relatives, and the table `knowledge`; nothing if there is no question.

        With a form, `kr_plain` is the accuracy on the questions as they stand in the file, `kr_reformed` the number of
        those that the form changes, and the table compares the two forms.
        """
        if not self.questions:
            return Measurement({})
        numbers = [number for number in range(len(self.questions)) if self._fraction(number) != OUTSIDE]
        questions = [self.questions[number] for number in numbers]
        margins = _margins([format_question(question, self.form) for question in questions], log_probs, encode)
        parts = self.fractions[numbers] if self.fractions is not None and self.parts else None
        rows = kr_rows(margins, parts, articles_of(questions))
        metrics = {
            **_shares(rows),
            "kr_standardised_margin": kr_standardised_margin(margins.common),
            **self._skipped_counts(),
        }
        table: dict[str, Any] = {
            "file": self._digest(),
            "numbers": numbers,
            "locations": [question.location for question in questions],
            "margins": margins.common.tolist(),
            "rows": [row.to_dict() for row in rows],
        }
        if self.form != "plain":
            changed = [
                index for index, question in enumerate(questions) if format_question(question, self.form) != question
            ]
            plain = margins.common.copy()
            plain[changed] = _margins([questions[index] for index in changed], log_probs, encode).common
            metrics |= {"kr_plain": kr_accuracy(plain), "kr_reformed": float(len(changed))}
            only_in_form, only_plain, p_value = kr_compare(margins.common, plain).test
            table["form"] = {"only_in_form": only_in_form, "only_plain": only_plain, "p_value": p_value}
        return Measurement(metrics, {"knowledge": table})

    def max_length(self, encode: Encode) -> int:
        """The most tokens of a row that is scored."""
        texts = [format_question(question, form) for question in self.questions for form in {"plain", self.form}]
        return max((len(row) for text in texts for row in encode_question(text, encode)[1:]), default=0)

    def _fraction(self, number: int) -> int:
        return 0 if self.fractions is None else int(self.fractions[number])

    def _skipped_counts(self) -> dict[str, float]:
        if self.fractions is None:
            return {}
        counts = {"kr_outside": self.fractions == OUTSIDE}
        if self.parts:
            counts["kr_straddling"] = self.fractions == STRADDLING
        return {name: float(np.sum(which)) for name, which in counts.items()}

    def _digest(self) -> str:
        """The same for the same questions, scored or not."""
        return hashlib.sha256(repr([astuple(question) for question in self.questions]).encode()).hexdigest()[:16]


def assign_fractions(
    questions: Sequence[Question], lines: DocumentLines, fractions: Sequence[int]
) -> NDArray[np.int64] | None:
    """The fraction of each question's source (see `KREvaluator`); `fractions` are their numbers of documents.

    A location is a line of the file that questions are about; a source ends where the next one with questions begins,
    and the last one at the end of the file. None where a question has no location.

    Raises:
        InputError: no source lies among the real documents.
    """
    locations = [question.location for question in questions if question.location is not None]
    if len(locations) < len(questions) or not locations:
        return None
    owners = np.repeat(np.arange(len(fractions)), fractions)
    known = [(line, owner) for line, owner in zip(lines.lines, owners, strict=True) if line is not None]
    later = [[line for line, owner in known if owner >= part] for part in range(1, len(fractions))]
    # Before the first document there is only white space.
    bounds = [0, *(min(begins, default=lines.end) for begins in later), lines.end]
    # Questions about a longer text, of which this file is the beginning, are outside as well.
    total = max(lines.total, max(locations) + 1)
    parts, inside = (kr_parts(locations, edges, total=total) for edges in (bounds, [0, lines.end]))
    if (inside < 0).all():
        raise InputError(
            f"data.kr_test: none of the {len(questions)} questions is about the real documents, which are lines 0 to "
            f"{lines.end - 1} of the file. Give the questions of this text, or more documents (see data.limit)."
        )
    return np.where(inside < 0, OUTSIDE, parts)


def _shares(rows: Sequence[KRRow]) -> dict[str, float]:
    """The metrics of a test's rows, the total first."""
    total, *fractions = rows
    metrics = {"kr_accuracy": total.accuracy.mean, "kr_sum": total.by_sum, "kr_mean": total.by_mean}
    metrics["kr_items"] = float(total.items)
    for row in fractions:
        name = f"kr_{row.part.replace(' ', '_')}"
        metrics |= {name: row.accuracy.mean, f"{name}.items": float(row.items)}
    return metrics


def _margins(questions: Sequence[Question], log_probs: LogProbs, encode: Encode) -> KRMargins:
    rows = [encode_question(question, encode) for question in questions]
    scored = log_probs([row for _, true, false in rows for row in (true, false)]) if rows else []
    return kr_margins(
        (scored[2 * number][context - 1 :], scored[2 * number + 1][context - 1 :])
        for number, (context, _, _) in enumerate(rows)
    )
