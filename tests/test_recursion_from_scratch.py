"""The recursion written out in examples/ is the laboratory's: one chain has the same metrics, to the last digit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tailkeep import lab

SCRIPT = Path(__file__).parents[1] / "examples" / "recursion_from_scratch.py"
DOCUMENTS, EPOCHS, THRESHOLD, GENERATIONS = 60, 8, 0.8, 2
ARMS = {
    "truncated": ["--regime", "replace", "--threshold", str(THRESHOLD)],
    "accumulate": ["--regime", "accumulate", "--threshold", "1"],
}
METRICS = ("held_out_nll", "kr_accuracy", "kept_fraction")


def read_rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def lab_rows(tmp_path_factory):
    """The generations of two arms of the packaged demo, with less text and fewer samples."""
    overrides = [
        "seeds=[0]", "device=cpu", f"generations={GENERATIONS}", f"data.documents={DOCUMENTS}",
        f"training.epochs={EPOCHS}", f"arms.truncated.loss.threshold={THRESHOLD}", "evaluation.samples=4",
    ]  # fmt: skip
    out = tmp_path_factory.mktemp("lab") / "run"
    lab.run(lab.load("demo", overrides=overrides, arms=list(ARMS)), out)
    rows = read_rows(out / "metrics.jsonl")
    return {arm: [row for row in rows if row["arm"] == arm] for arm in ARMS}


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_a_chain_from_scratch_has_the_metrics_of_the_lab(lab_rows, arm, tmp_path):
    sizes = {"--documents": DOCUMENTS, "--epochs": EPOCHS, "--generations": GENERATIONS}
    options = [*ARMS[arm], *(text for option, value in sizes.items() for text in (option, str(value)))]
    command = [sys.executable, str(SCRIPT), str(tmp_path / "run"), *options]
    subprocess.run(command, capture_output=True, text=True, check=True)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert len(rows) == len(lab_rows[arm]) == GENERATIONS
    assert [[row[name] for name in METRICS] for row in rows] == [
        [row[name] for name in METRICS] for row in lab_rows[arm]
    ]
    if arm == "truncated":
        assert 0.1 < rows[1]["kept_fraction"] < 0.95
