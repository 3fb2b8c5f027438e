"""The mixing advice, and the lab experiment that an audit writes."""

import json
from pathlib import Path

import pytest
import yaml

from tailkeep.audit import load, run
from tailkeep.audit.config import MixingConfig
from tailkeep.audit.recommend import lab_experiment, plan_mixing
from tailkeep.errors import ConfigError
from tailkeep.lab import run as run_lab
from tailkeep.metrics import required_real_share
from tests.audit.conftest import QUICK_OPTIONS, prose, sample_of, write_jsonl

FAST = QUICK_OPTIONS


def test_repeats_give_the_weight_that_stands_beside_them():
    for advice in plan_mixing(300.0, 100.0, examples=500):
        if advice.repeats is not None:
            share = advice.repeats * 300 / (advice.repeats * 300 + 100)
            assert share == pytest.approx(advice.real_weight)


@pytest.mark.parametrize(("real", "synthetic"), [(1e17, 1), (1e100, 1e-100)])
def test_so_much_real_data_that_its_weight_rounds_to_1_has_no_number_of_repeats(real, synthetic):
    golden, everything, *_ = plan_mixing(**MixingConfig(real=real, synthetic=synthetic).model_dump())
    assert (golden.real_weight, golden.repeats) == (1, None)
    assert (everything.real_weight, everything.repeats) == (1, None)


@pytest.mark.parametrize("amount", [0, -1, 1e-300, 1e300, float("inf")])
def test_an_amount_whose_ratio_could_round_to_nothing_is_refused(amount):
    with pytest.raises(ConfigError, match=r"mixing\.synthetic"):
        load({"mixing": {"real": 1, "synthetic": amount}})


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


@pytest.mark.parametrize("sides", [["input"], ["input", "reference"]])
def test_no_copy_of_a_held_out_document_is_trained_on(sides):
    texts = prose(60, words=40, seed=4)
    # Each document of the reference stands twice in it, and once more among the synthetic ones.
    samples = {"input": sample_of([*texts, *prose(60, words=40, seed=5), *texts])}
    samples |= {"reference": sample_of([*texts, *texts])} if "reference" in sides else {}
    _, files = lab_experiment(samples, None)
    held_out, *mixtures = (
        {json.loads(line)["text"] for line in files[name].splitlines()} for name in sorted(files) if "jsonl" in name
    )
    assert len(held_out) >= 24
    assert len(mixtures) == (5 if "reference" in sides else 1)
    assert all(mixture and not mixture & held_out for mixture in mixtures)


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
