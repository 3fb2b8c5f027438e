"""The examples run as they stand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audit.conftest import prose, write_jsonl
from tests.edit.conftest import prior

__all__ = ["prior"]

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, out):
    command = [sys.executable, str(EXAMPLES / name), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_an_own_learner_loses_words_unless_it_accumulates(tmp_path):
    assert run("own_learner.py", tmp_path / "run") == [str(tmp_path / "run" / "report.html")]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = {(row["arm"], row["seed"]): row["words_alive"] for row in rows if row["generation"] == 19}
    assert all(last["replace", seed] < last["accumulate", seed] for seed in (0, 1, 2))


@pytest.mark.slow
def test_an_own_loss_trains_beside_the_plain_one(tmp_path):
    run("own_loss.py", tmp_path / "run")
    metrics = {
        arm: (tmp_path / "run" / "cells" / arm / "0" / "1" / "metrics.json").read_text() for arm in ("baseline", "half")
    }
    assert '"kept_fraction": 1.0' in metrics["half"]
    nll = {arm: json.loads(text)["metrics"]["held_out_nll"] for arm, text in metrics.items()}
    assert nll["half"] != nll["baseline"]


def test_remedies_that_add_up_are_told_from_those_that_cancel(tmp_path):
    worth = {"sample-baseline": 0.5, "sample-truncated": 0.6, "matched-baseline": 0.7, "matched-truncated": 0.7}
    rows = [
        {"arm": arm, "seed": seed, "generation": generation, "kr_accuracy": value + seed / 10 + seed * generation / 1e4}
        for arm, value in worth.items() for seed in (0, 1, 2) for generation in (0, 1)
    ]  # fmt: skip
    (tmp_path / "config.yaml").write_text("grid: {decoder: [sample, matched], loss: [baseline, truncated]}\n")
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    command = [sys.executable, str(EXAMPLES / "factorial.py"), str(tmp_path), "kr_accuracy"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["matched", "+0.150", "(+0.150", "to", "+0.150)"], ["truncated", "+0.050", "(+0.050", "to", "+0.050)"],
    ]  # fmt: skip
    assert lines[3].split("  ")[0] == "matched x truncated"
    assert lines[3].endswith("-0.100 (-0.100 to -0.100)  together less than their sum")


@pytest.mark.slow
def test_the_signs_of_synthetic_text_stand_beside_the_published_ones(tmp_path):
    for name, types in (("human", 800), ("machine", 40)):
        write_jsonl(tmp_path / f"{name}.jsonl", prose(40, words=20, seed=types, types=types))
    command = [sys.executable, str(EXAMPLES / "audit_synthetic.py"), "human.jsonl", "machine.jsonl", "--out", "out"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()
    assert found[2].startswith("| entropy of word pairs")
    assert found[2].endswith("| yes |")
    assert found[-1].endswith("cd out && tailkeep lab lab/mix.yaml --out lab/run")


@pytest.mark.slow
def test_a_model_is_shown_its_confidence_an_edit_and_a_truncated_step(prior, tmp_path):
    command = [sys.executable, str(EXAMPLES / "demo_real.py"), str(prior), "--out", str(tmp_path / "out")]
    *_, plain, truncated, _, verdict, page = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert plain.startswith("cross-entropy")
    assert plain.endswith("100.0%")
    assert truncated.startswith("truncated, p > 0.99")
    assert verdict.startswith("The edit changed ")
    assert " of 10 documents." in verdict
    assert page == f"report: {tmp_path / 'out' / 'report.html'}"
    assert "How confident the prior is of the corpus" in (tmp_path / "out" / "report.html").read_text()


def test_every_example_is_run():
    # Those of examples/doors are run by tests/lab/test_doors.py.
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "audit_synthetic.py", "demo_real.py", "factorial.py", "own_learner.py", "own_loss.py",
        "fetch_models.py", "fortifai_fig1.py", "paired_perplexity.py", "pubmedqa.py", "recursion_from_scratch.py",
        "steps.py", "toedit_u_shape.py", "wikitext_articles.py", "write_documents.py",
    }  # fmt: skip


def test_no_document_is_left_half_written():
    root = EXAMPLES.parent
    files = [root / "README.md", *root.glob("docs/**/*.md"), *root.glob("src/tailkeep/recipes/*.yaml")]
    assert len(files) > 6
    assert not [path.name for path in files if "@@" in path.read_text(encoding="utf-8")]


@pytest.mark.slow
@pytest.mark.parametrize("use_peft", [False, True])
def test_the_script_for_trl_trains_and_logs_the_share_that_is_kept(prior, tmp_path, use_peft):
    pytest.importorskip("trl")
    (tmp_path / "train.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in prose(32, words=20, seed=0))
    )
    settings = {
        **{"model_name_or_path": prior, "dataset_name": "json", "data_files": tmp_path / "train.jsonl"},
        **{"output_dir": tmp_path / "out", "max_steps": 2, "per_device_train_batch_size": 2, "logging_steps": 1},
        **{"bf16": False, "gradient_checkpointing": False, "use_cpu": True, "report_to": "none", "threshold": 0.9},
        "use_peft": use_peft,
    }
    script = EXAMPLES / "upstream" / "trl_truncated_sft.py"
    options = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
    ended = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "'kept_fraction'" in ended.stdout + ended.stderr
    assert (tmp_path / "out" / ("adapter_model.safetensors" if use_peft else "model.safetensors")).is_file()
