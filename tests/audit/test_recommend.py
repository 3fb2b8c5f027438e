"""The mixing advice, and the lab experiment that an audit writes."""

import json
from pathlib import Path

import pytest
import yaml

from tailkeep.audit import run
from tailkeep.audit.recommend import plan_mixing
from tailkeep.errors import ConfigError
from tailkeep.lab import run as run_lab
from tailkeep.metrics import required_real_share
from tests.audit.conftest import QUICK_OPTIONS, prose, write_jsonl
from tests.edit.test_command import tailkeep

__all__ = ["tailkeep"]


FAST = QUICK_OPTIONS


def test_repeats_give_the_weight_that_stands_beside_them():
    for advice in plan_mixing(300.0, 100.0, examples=500):
        if advice.repeats is not None:
            share = advice.repeats * 300 / (advice.repeats * 300 + 100)
            assert share == pytest.approx(advice.real_weight)


def test_the_planner_takes_the_sizes_that_are_given(corpus, reference, tmp_path):
    sizes = {"real": 100, "synthetic": 100}
    outcome = run({"mixing": sizes}, corpus, tmp_path / "out", reference=reference)
    weights = [advice["real_weight"] for advice in outcome.summary["mixing"] if not advice["from_counts"]]
    assert weights[0] == pytest.approx((5**0.5 - 1) / 2)
    assert weights[1] == 0.5
    assert all("arXiv" in advice["source"] and advice["assumes"] for advice in outcome.summary["mixing"])


def test_nothing_is_advised_where_nothing_was_tested(corpus, tmp_path):
    assert run({}, corpus, tmp_path / "out").summary["mixing"] == []
    with pytest.raises(ConfigError, match="mixing has no effect without --reference"):
        run({"mixing": {"real": 100, "synthetic": 100}}, corpus, tmp_path / "sizes")
    texts = prose(24, words=30, seed=6)
    inputs, trusted = (write_jsonl(tmp_path / f"{i}.jsonl", texts[i::2]) for i in (0, 1))
    outcome = run({}, inputs, tmp_path / "few", reference=trusted)
    assert outcome.summary["comparison"] is None
    assert outcome.summary["mixing"] == []


def test_the_planner_says_which_share_holds_the_rare_words_against_drift(corpus, reference, tmp_path):
    plain = plan_mixing(100.0, 100.0)
    first, *others = plan_mixing(100.0, 100.0, spectrum={1: 500, 2: 200, 3: 100, 50: 9})
    assert [advice.rule for advice in others] == [advice.rule for advice in plain]
    assert first.rule == "so much real data holds half of the real words that occur at most 3 times over 10 generations"
    share = required_real_share([1, 2, 3], [500, 200, 100], 0.5, 10)
    assert first.real_weight == pytest.approx(share)
    # Words that occur twice or more hold out longer, so less is needed; without rare words there is nothing to hold.
    assert plan_mixing(1.0, 1.0, spectrum={2: 1, 3: 1})[0].real_weight < share
    assert plan_mixing(1.0, 1.0, spectrum={50: 9}) == plan_mixing(1.0, 1.0)
    outcome = run({}, corpus, tmp_path / "out", reference=reference)
    rules = [advice["rule"] for advice in outcome.summary["mixing"]]
    words = outcome.summary["reference"]["spectrum"]
    assert (first.rule in rules) == (words["once_share_of_types"] > 0)


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
