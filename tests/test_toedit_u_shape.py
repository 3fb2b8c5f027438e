"""examples/toedit_u_shape.py: shares of a model that is sure by construction, and a rerun only prints."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_fortifai_fig1 import STORIES, model_folder

SCRIPT = Path(__file__).parents[1] / "examples" / "toedit_u_shape.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("toedit_u_shape", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(SCRIPT.parent))
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_one_pass_gives_every_share_and_a_rerun_prints_the_same(tmp_path):
    model_folder(tmp_path / "model")
    lines = [json.dumps({"question": "Who is Ann?", "answer": text}) for text in STORIES]
    (tmp_path / "stories.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, str(SCRIPT), "out", "--models", "model", "--texts", "s=stories.jsonl:question+answer"]
    command += ["--perturb", "s"]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout for _ in range(2)
    )
    assert first[first.index("\n| model") :] == second[second.index("\n| model") :]
    result = json.loads((tmp_path / "out" / "model-s.json").read_text(encoding="utf-8"))
    assert result["documents"] == len(STORIES)
    assert sum(result["histogram"]) == result["tokens"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["model s"]
    assert summary["histogram"] == result["histogram"]
    assert summary["changed"] == {"paper": 0, "temperature-1.5": 0, "without-original": 0}
    # A network with random weights is never sure, and near the uniform distribution.
    assert result["flagged"] == 0
    exact, half, whole = (
        json.loads((tmp_path / "out" / f"model-s-perturbed-{size}.json").read_text(encoding="utf-8"))["nll"]
        for size in ("0.0", "0.5", "1.0")
    )
    assert exact == pytest.approx(result["nll"], abs=1e-3)
    assert len({exact, half, whole}) == 3


@pytest.mark.parametrize("levels", [16, 64])
def test_the_step_of_weights_on_a_grid_is_the_distance_of_its_points(script, levels):
    rng = np.random.default_rng(0)
    grid = rng.integers(0, levels, (8, 64))
    grid[:, [0, 32]], grid[:, [1, 33]] = 0, levels - 1
    weights = torch.from_numpy(0.25 * grid - 3).float()
    assert torch.allclose(script.quantisation_step(weights), torch.full_like(weights, 0.25))


def test_the_jaccard_index_counts_characters_document_by_document(script):
    first = {"flagged_spans": [[[0, 4]], [[0, 2]]]}
    second = {"flagged_spans": [[[2, 8]], [[5, 6]]]}
    # Both flag 2 of 8 characters of the first document and 0 of 3 of the second.
    assert script.jaccard(first, second)[0] == pytest.approx(2 / 11)
    assert script.jaccard(first, first)[0] == 1


def test_every_way_of_sampling_gets_the_same_distribution(script):
    tokens = [type("Tokens", (), {"ids": np.array([0, 1, 2])})]
    sampled = script.SampledTokens(tokens, torch.ones(4, dtype=torch.bool))
    log_probs = torch.tensor([[0.996, 0.002, 0.001, 0.001]]).log()
    sampled.sample(np.array([0]), np.array([1]), log_probs, torch.tensor([0]))
    assert sampled.samples["paper"] == {(0, 1): 0}
    assert sampled.samples["without-original"][0, 1] != 0
