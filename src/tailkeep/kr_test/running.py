"""What a model makes of the questions of a test. Rule: plain likelihood, with the cut of `scoring.question_rows`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tailkeep.data import Form, Question, in_form
from tailkeep.kr_test.results import Margins
from tailkeep.metrics import kr_margins
from tailkeep.scoring import CausalLMScorer, Prior, encode_open, question_rows
from tailkeep.scoring.text import load_tokenizer


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

    def answer(self, questions: Sequence[Question], *, form: Form = "plain") -> Margins:
        """How much likelier it finds each true sentence, by each way of counting, see `metrics.kr_margin`."""
        asked = [in_form(question, form) for question in questions]
        rows = [question_rows(question, lambda text: encode_open(self.tokenizer, text)) for question in asked]
        scored = [row.log_probs for row in self.scorer.score(row for _, *both in rows for row in both)]
        cut = [
            (scored[2 * number][context:], scored[2 * number + 1][context:])
            for number, (context, _, _) in enumerate(rows)
        ]
        found = kr_margins(cut)
        longer = sum(max(len(true), len(false)) > self.scorer.window for _, true, false in rows)
        uneven = sum(len(true) != len(false) for true, false in cut)
        return Margins(found.common, found.sum, found.mean, uneven=uneven, beyond_window=longer)


def token_counter(path: Path) -> Callable[[str], int]:
    """How many tokens the tokenizer in the folder `path` makes of a text.

    Raises:
        InputError: there is none that transformers can read.
    """
    tokenizer = load_tokenizer(path, key="--tokenizer")
    return lambda text: len(encode_open(tokenizer, f" {text}"))
