"""examples/paired_perplexity.py: pairs lose what they share, and a narrower side is found narrower."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.test_fortifai_fig1 import STORIES, model_folder

SCRIPT = Path(__file__).parents[1] / "examples" / "paired_perplexity.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("paired_perplexity", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(SCRIPT.parent))
    spec.loader.exec_module(module)
    return module


def test_the_common_beginning_and_line_breaks_are_cut_off(script):
    assert script.without_common_beginning("A  cat\nsat there", "A cat ran") == ("sat there", "ran")
    assert script.without_common_beginning("the same", "the same") == ("", "")


def test_the_spread_of_a_narrower_side_is_smaller_and_its_interval_excludes_0(script):
    rng = np.random.default_rng(1)
    human, synthetic = rng.normal(3, 0.8, 300), rng.normal(3, 0.4, 300)
    difference, low, high = script.difference_interval(human, synthetic, np.std, resamples=500)
    assert low < difference < high < 0
    assert low < -0.4 < high
    same = script.difference_interval(human, human, np.mean, resamples=100)
    assert same == (0, 0, 0)


@pytest.mark.slow
def test_pairs_are_matched_in_length_and_short_ones_counted(tmp_path):
    model_folder(tmp_path / "model")
    long_text = " ".join(STORIES)
    pairs = {"original": [long_text, "Ann ran."], "sampled": ["Ben " + long_text * 2, "Ann sat."]}
    (tmp_path / "made_by_x.raw_data.json").write_text(json.dumps(pairs), encoding="utf-8")
    command = [sys.executable, str(SCRIPT), "out", "--models", "model", "--pairs", "made_by_x.raw_data.json"]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout for _ in range(2)
    )
    assert first == second
    assert first.count("| made_by_x | model | 1 |") == 3
    refused = subprocess.run([*command, "--per-file", "1"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr == (
        "out holds results with per_file None, not 1. Give another folder, or the same options.\n"
    )
    result = json.loads((tmp_path / "out" / "model-made_by_x.json").read_text(encoding="utf-8"))
    assert result["left_out"] == 1
    assert len(result["synthetic"]["nll"]) == 1
