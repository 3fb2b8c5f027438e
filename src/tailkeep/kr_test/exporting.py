"""A test as a task of lm-evaluation-harness: two files that it runs offline.

Rule: the harness joins context and choice itself, so a choice begins with the space; its `acc` compares summed
log-probabilities and is our `sum`.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailkeep.config import dump_tree
from tailkeep.data import Question
from tailkeep.errors import ConfigError, InputError
from tailkeep.runs import Storage

_NAME = re.compile(r"[A-Za-z0-9_]+")


def export(questions: Sequence[Question], out: Path, *, name: str = "kr_test", storage: Storage | None = None) -> Path:
    """Write `questions` as the task `name` into the new or empty folder `out`; returns the YAML file.

    The true sentence is the first choice of every other question, so that ties count half on average. The YAML names
    its data by the absolute path, since the harness reads relative ones from wherever it is started.

    Raises:
        ConfigError: the name cannot be that of a task.
        InputError: `out` holds other things.
        StorageError: the file system refused.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name: {name!r} cannot name a task. Use letters, digits and '_'.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty. Give a new or an empty folder.")
    target = out.resolve()
    task: dict[str, Any] = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(target / f"{name}.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
        ],
        "metadata": {"version": 1},
    }
    lines = "".join(
        json.dumps(_document(q, number % 2), ensure_ascii=False) + "\n" for number, q in enumerate(questions)
    )

    def fill(folder: Path) -> None:
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        (folder / f"{name}.yaml").write_text(dump_tree(task), encoding="utf-8")

    (storage or Storage()).write_folder(target, fill)
    return target / f"{name}.yaml"


def _document(question: Question, gold: int) -> dict[str, Any]:
    choices = [f" {question.sentence_true}", f" {question.sentence_false}"]
    # Columns called true and false would be read as Jinja's own words.
    return {"context": question.context, "choices": choices if gold == 0 else choices[::-1], "gold": gold}
