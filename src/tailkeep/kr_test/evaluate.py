"""A model evaluated on a KR-test: margins per question, a table of accuracies, McNemar tests between models.

Rule: log-likelihoods are scored over the tokens that `encode_question` names; the figures are those of `metrics`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.data import Form, Question, format_question
from tailkeep.errors import ConfigError, InputError
from tailkeep.kr_test.cloze import Pair, both_questions
from tailkeep.metrics import KRMargins, KRRow, McNemar, kr_accuracy, kr_compare, kr_fractions, kr_margins
from tailkeep.scoring import CausalLMScorer, Prior, encode_question, encode_without_eos
from tailkeep.scoring.loading import load_tokenizer


@dataclass(frozen=True, eq=False)
class QuestionMargins(KRMargins):
    """The margins of a model on a whole test.

    `uneven` is the number of questions whose sentences have different numbers of tokens, `beyond_window` of those that
    the model cannot read in one piece, so that the sentence is scored without the beginning of its context.
    """

    uneven: int = 0
    beyond_window: int = 0


@dataclass(frozen=True)
class ModelComparison:
    """A model compared with `reference` on the same questions; `num_ties` of them are ties of one model, not tested."""

    reference: str
    accuracy: float
    test: McNemar
    num_ties: int


def compare(one: NDArray[np.float64], other: NDArray[np.float64], *, reference: str) -> ModelComparison:
    """McNemar's test of two models' margins of the same questions (n,)."""
    test, num_ties = kr_compare(one, other)
    return ModelComparison(reference, kr_accuracy(other), test, num_ties)


def parts_of(questions: Sequence[Question], fractions: int, *, total: int | None = None) -> NDArray[np.int64]:
    """The fraction of each question, -1 where its source straddles two; see `metrics.kr_fractions`.

    Raises:
        ConfigError: a question has no location, or the corpus is smaller than a location says.
    """
    locations = [question.location for question in questions]
    if None in locations:
        raise ConfigError(
            f"--num-parts: {locations.count(None)} of {len(locations)} questions have no 'location'. "
            "Add it to the file, or leave the option out."
        )
    try:
        return kr_fractions([location for location in locations if location is not None], fractions, total=total)
    except ValueError as error:
        raise ConfigError(f"--num-parts and --num-documents: {error}") from None


def row_lines(rows: Sequence[KRRow]) -> Iterator[str]:
    """A table for a terminal."""
    yield f"{'part':<12} {'items':>6}  common (95 % Wilson, over articles)               sum   mean"
    for row in rows:
        wilson, clustered = row.accuracy, row.bootstrap
        bounds = f"{clustered.low:.3f} to {clustered.high:.3f}" if math.isfinite(clustered.low) else "too few articles"
        yield (
            f"{row.part:<12} {row.items:>6}  {wilson.mean:.3f} ({wilson.low:.3f} to {wilson.high:.3f}, {bounds})  "
            f"{row.by_sum:.3f}  {row.by_mean:.3f}"
        )


def tree_of(rows: Sequence[KRRow], margins: QuestionMargins, comparisons: Sequence[ModelComparison]) -> dict[str, Any]:
    """All figures as plain values, the margins of each question among them."""
    return {
        "rows": [row.to_dict() for row in rows],
        "comparisons": [{**asdict(item), "test": item.test._asdict()} for item in comparisons],
        "uneven": margins.uneven,
        "beyond_window": margins.beyond_window,
        "margins": {name: getattr(margins, name).tolist() for name in ("common", "sum", "mean")},
    }


@dataclass(frozen=True)
class KRModel:
    """A model with its tokenizer."""

    name: str
    scorer: CausalLMScorer
    tokenizer: object

    @classmethod
    def load(cls, path: Path) -> "KRModel":
        """The model in the folder `path`, or the hub's.

        Raises:
            InputError: it cannot be found or read.
        """
        scorer = CausalLMScorer(Prior(path=path, dtype="float32"))
        return cls(str(path), scorer, load_tokenizer(scorer.folder, key="--model"))

    def pair_margins(self, pairs: Sequence[Pair]) -> list[tuple[float, float]]:
        """The margins of both questions of each of `pairs` over the tokens that both sentences have, in nats/token."""
        margins = self.answer([question for pair in pairs for question in both_questions(pair)]).common
        return [(float(first), float(second)) for first, second in margins.reshape(-1, 2)]

    def answer(self, questions: Sequence[Question], *, form: Form = "plain") -> QuestionMargins:
        """Log-odds of each true sentence over its false twin, by each way of counting, see `metrics.kr_margin`.

        Raises:
            InputError: the model gives NaN for a token of a sentence.
        """
        rows = [
            encode_question(format_question(question, form), lambda text: encode_without_eos(self.tokenizer, text))
            for question in questions
        ]
        scored = [row.log_probs for row in self.scorer.score(row for _, *both in rows for row in both)]
        continuations = [
            (scored[2 * number][context:], scored[2 * number + 1][context:])
            for number, (context, _, _) in enumerate(rows)
        ]
        for question, both in zip(questions, continuations, strict=True):
            if any(np.isnan(log_probs).any() for log_probs in both):
                raise InputError(
                    f"{self.name}: the probability of a token of {question.sentence_true!r}, or of its false twin, "
                    f"is NaN. {self.scorer.nan_reason()}"
                )
        margins = kr_margins(continuations)
        longer = sum(max(len(true), len(false)) > self.scorer.window for _, true, false in rows)
        uneven = sum(len(true) != len(false) for true, false in continuations)
        return QuestionMargins(margins.common, margins.sum, margins.mean, uneven=uneven, beyond_window=longer)


def token_counter(path: Path) -> Callable[[str], int]:
    """How many tokens the tokenizer in the folder `path` makes of a text.

    Raises:
        InputError: there is none that transformers can read.
    """
    tokenizer = load_tokenizer(path, key="--tokenizer")
    return lambda text: len(encode_without_eos(tokenizer, f" {text}"))
