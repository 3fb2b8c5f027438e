"""A test as a task of lm-evaluation-harness. Rule: the harness' `acc` is our `sum`."""

from collections.abc import Sequence
from pathlib import Path

from tailkeep.data import Choice, Question, write_tasks
from tailkeep.runs import Storage


def export(questions: Sequence[Question], out: Path, *, name: str = "kr_test", storage: Storage | None = None) -> Path:
    """Write `questions` as the task `name` into the new or empty folder `out`; returns the YAML file.

    The true sentence is the first choice of every other question, so that ties count half on average.

    Raises:
        ConfigError: the name cannot be that of a task.
        InputError: `out` holds other things.
        StorageError: the file system refused.
    """
    items = [_choice(question, number % 2) for number, question in enumerate(questions)]
    return write_tasks({name: items}, out, storage=storage)[0]


def _choice(question: Question, gold: int) -> Choice:
    sentences = (question.sentence_true, question.sentence_false)
    return Choice(question.context, sentences if gold == 0 else sentences[::-1], gold)
