"""Multiple choice as tasks of lm-evaluation-harness: two files each, which it runs offline.

Rule: the harness joins a query and its choices itself, so a choice begins with the space; its `acc` compares summed
log-probabilities.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tailkeep.config import dump_tree
from tailkeep.data.choices import Choice
from tailkeep.errors import ConfigError, InputError
from tailkeep.runs import Storage

_NAME = re.compile(r"[A-Za-z0-9_]+")


def write_tasks(tests: Mapping[str, Sequence[Choice]], out: Path, *, storage: Storage | None = None) -> list[Path]:
    """Write each test as the task of its name into the new or empty folder `out`; the YAML files, in their order.

    A YAML names its data by the absolute path, since the harness reads relative ones from wherever it is started.

    Raises:
        ConfigError: a name cannot be that of a task.
        InputError: `out` holds other things.
        StorageError: the file system refused.
    """
    for name in tests:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot name a task. Use letters, digits and '_'.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        state = "is not empty" if out.is_dir() else "is a file"
        raise InputError(f"{out} {state}. Give a new or an empty folder.")
    target = out.resolve()

    def fill(folder: Path) -> None:
        for name, items in tests.items():
            lines = "".join(json.dumps(_document(item), ensure_ascii=False) + "\n" for item in items)
            (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
            task = _task(name, target / f"{name}.jsonl")
            (folder / f"{name}.yaml").write_text(dump_tree(task), encoding="utf-8")

    (storage or Storage()).write_folder(target, fill)
    return [target / f"{name}.yaml" for name in tests]


def _task(name: str, data: Path) -> dict[str, Any]:
    # Bare names of columns: the harness takes a rendered template for a Python value where it looks like one.
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
        ],
        "metadata": {"version": 1},
    }


def _document(item: Choice) -> dict[str, Any]:
    choices = [f" {choice}" if item.query else choice for choice in item.choices]
    return {"context": item.query, "choices": choices, "gold": item.gold}
