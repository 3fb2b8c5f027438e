"""What a model makes of the questions of a test. Rule: plain likelihood, with the cut of `scoring.question_rows`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailkeep.data import Question, wikitext_form
from tailkeep.kr_test.results import Margins
from tailkeep.metrics import kr_margin
from tailkeep.scoring import CausalLMScorer, Prior, encode_open, question_rows
from tailkeep.scoring.text import load_tokenizer

FORMS: dict[str, Callable[[str], str]] = {"plain": str, "wikitext": wikitext_form}
"""What questions are put into before they are asked: nothing, or WikiText's token form."""


@dataclass(frozen=True)
class Examinee:
    """A model with its tokenizer."""

    name: str
    scorer: CausalLMScorer
    tokenizer: object

    @classmethod
    def load(cls, path: Path) -> "Examinee":
        """The model in the folder `path`, or the hub's.

        Raises:
            InputError: it cannot be found or read.
        """
        scorer = CausalLMScorer(Prior(path=path))
        return cls(str(path), scorer, load_tokenizer(scorer.folder, key="--model"))

    def answer(self, questions: Sequence[Question], *, form: str = "plain") -> Margins:
        """How much likelier it finds each true sentence, by each way of counting, see `metrics.kr_margin`."""
        change = FORMS[form]
        asked = [
            Question(change(q.context), change(q.sentence_true), change(q.sentence_false), q.location)
            for q in questions
        ]
        rows = [question_rows(question, lambda text: encode_open(self.tokenizer, text)) for question in asked]
        scored = [row.log_probs for row in self.scorer.score(row for _, *both in rows for row in both)]
        cut = [
            (scored[2 * number][context:], scored[2 * number + 1][context:])
            for number, (context, _, _) in enumerate(rows)
        ]

        def margins(over: str) -> NDArray[np.float64]:
            return np.array([kr_margin(true, false, over=over) for true, false in cut])  # type: ignore[arg-type]

        longer = sum(max(len(true), len(false)) > self.scorer.window for _, true, false in rows)
        uneven = sum(len(true) != len(false) for true, false in cut)
        return Margins(margins("common"), margins("sum"), margins("mean"), uneven=uneven, beyond_window=longer)


def token_counter(path: Path) -> Callable[[str], int]:
    """How many tokens the tokenizer in the folder `path` makes of a text.

    Raises:
        InputError: there is none that transformers can read.
    """
    tokenizer = load_tokenizer(path, key="--tokenizer")
    return lambda text: len(encode_open(tokenizer, f" {text}"))
