"""lm-evaluation-harness as the tests run it: with no network to go to."""

from pathlib import Path
from typing import Any

import pytest


def evaluate(
    model: Path, tasks: list[Path], monkeypatch: pytest.MonkeyPatch, cache: Path, **options: Any
) -> dict[str, Any]:
    """The results and samples of the tasks, whose YAML files lie in one folder; `options` are HFLM's."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(cache))
    evaluator = pytest.importorskip("lm_eval.evaluator")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tasks[0].parent), include_defaults=False)
    found: dict[str, Any] = evaluator.simple_evaluate(
        model=HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=2, **options),
        tasks=[task.stem for task in tasks],
        task_manager=manager,
        log_samples=True,
        bootstrap_iters=0,
    )
    return found


def sums_of(found: dict[str, Any], task: str) -> list[list[float]]:
    """For each item in its order the summed log-probability of each choice."""
    samples = sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
    return [[float(response[0]) for response in sample["filtered_resps"]] for sample in samples]
