"""The KR-test's margin round by round, on invented margins whose answer is known."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import margins


def write_round(run, arm, number, values, *, text=None):
    folder = run / "cells" / arm / "0" / str(number)
    (folder / "generated" / str(number)).mkdir(parents=True)
    if text is not None:
        np.save(folder / "generated" / str(number) / "ids.npy", np.array(text))
    table = {"margins": list(values), "locations": [n // 4 for n in range(len(values))]}
    metrics = {"kr_accuracy": float(np.mean(np.array(values) > 0)), "held_out_nll": 4.0}
    (folder / "metrics.json").write_text(json.dumps({"metrics": metrics, "tables": {"knowledge": table}}))


@pytest.fixture
def run(tmp_path):
    before = np.random.default_rng(0).normal(1.0, 1.0, 80)
    for arm, shift in (("falls", 0.5), ("stays", 0.0)):
        write_round(tmp_path, arm, 0, before)
        write_round(tmp_path, arm, 1, before - shift, text=[1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3])
    return tmp_path


def rows_of(printed):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if line]


def test_a_round_is_beside_round_0_and_two_arms_beside_each_other(run, capsys):
    margins.main([str(run)])
    rows = rows_of(capsys.readouterr().out)
    stays, falls = (next(row for row in rows if row[:2] == [arm, "1"]) for arm in ("stays", "falls"))
    assert stays[3:5] == ["1.00", "+0.00 (+0.00 to +0.00)"]
    assert float(falls[3]) < 0.7
    assert falls[4].startswith("-0.")
    # Eight runs of four tokens, of which four differ.
    assert falls[-1] == "0.50"
    (pair,) = [row for row in rows if row[0] == "stays - falls"]
    assert pair[2].startswith("+0.")
    assert float(pair[-1]) > 0


def test_a_run_without_questions_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="has no questions under seed 0"):
        margins.main([str(tmp_path)])
