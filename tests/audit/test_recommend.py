"""The mixing advice, and the lab experiment that an audit writes."""

import json
from pathlib import Path

import pytest
import yaml

from tailkeep.audit import run
from tailkeep.audit.recommend import plan_mixing
from tailkeep.lab import run as run_lab
from tests.edit.test_command import tailkeep

__all__ = ["tailkeep"]


FAST = ["--set", "testing.permutations=640"]


def test_repeats_give_the_weight_that_stands_beside_them():
    for advice in plan_mixing(300.0, 100.0, examples=500):
        if advice.repeats is not None:
            share = advice.repeats * 300 / (advice.repeats * 300 + 100)
            assert share == pytest.approx(advice.real_weight)


def test_the_planner_takes_the_sizes_that_are_given(corpus, tmp_path):
    outcome = run({"mixing": {"real": 100, "synthetic": 100}}, corpus, tmp_path / "out")
    weights = [advice["real_weight"] for advice in outcome.summary["mixing"]]
    assert weights[0] == pytest.approx((5**0.5 - 1) / 2)
    assert weights[1] == 0.5
    assert all("arXiv" in advice["source"] and advice["assumes"] for advice in outcome.summary["mixing"])


def texts_in(name):
    return [json.loads(line)["text"] for line in Path("lab", f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_laboratory_runs_what_the_audit_prints(corpus, reference, tailkeep, tmp_path, monkeypatch):
    tailkeep("audit", "--input", corpus, "--reference", reference, "--out", tmp_path / "out", *FAST)
    monkeypatch.chdir(tmp_path / "out")
    tree = yaml.safe_load((tmp_path / "out" / "lab" / "mix.yaml").read_text())
    held = set(texts_in("held-out"))
    sizes = []
    for share in (0, 25, 50, 75, 100):
        texts = texts_in(f"input-{share}")
        assert not held & set(texts)
        sizes.append(sum(len(text) for text in texts))
    assert max(sizes) - min(sizes) <= 8
    smaller = {**tree, "seeds": [0], "arms": {name: tree["arms"][name] for name in ("input-0", "input-100")}}
    smaller["model"]["config"] |= {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    smaller |= {"training": {"block": 64, "batch": 8, "epochs": 0.3}, "evaluation": {"samples": 4, "new_tokens": 8}}
    run_lab(smaller, tmp_path / "out" / "lab" / "run")
    rows = [json.loads(line) for line in (tmp_path / "out" / "lab" / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {row["arm"] for row in rows} == {"input-0", "input-100"}
