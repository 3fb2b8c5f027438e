"""The benchmarks run at toy sizes, print their tables and write their CSV files."""

import csv
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers.pre_tokenizers import WhitespaceSplit

from tests.audit.conftest import prose
from tests.integrations import tiny

LOSS = Path(__file__).parents[1] / "benchmarks" / "loss.py"
EDIT = LOSS.with_name("edit.py")
SMALL = ["--tokens", "96", "--width", "16", "--rounds", "2", "--threads", "1"]


def run(*arguments, path=""):
    command = [sys.executable, LOSS, *SMALL, *arguments]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(path), os.environ.get("PYTHONPATH")]))}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout


def rows_of(file):
    with file.open(newline="", encoding="utf-8") as opened:
        return {row["contender"]: row for row in csv.DictReader(opened)}


def package(folder, name, **modules):
    """A package that hides the installed one."""
    (folder / name).mkdir()
    for module, text in {"__init__": "", **modules}.items():
        (folder / name / f"{module}.py").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """What was printed, and the rows, where one rival fails when it is called and another is not there."""
    folder = tmp_path_factory.mktemp("toy")
    package(folder, "trl", kernels="class ChunkedLogProbFunction:\n    apply = lambda *_: 1 / 0\n")
    package(folder, "cut_cross_entropy")
    only = ["--only", "eager", "tailkeep fused", "TRL", "cut"]
    printed = run(
        "--vocab", "2000", "--kept-fractions", "1", "0.5", *only, "--out", str(folder / "loss.csv"), path=folder
    )
    return printed, rows_of(folder / "loss.csv")


@pytest.mark.slow
def test_the_cost_of_the_loss_is_a_table_relative_to_an_exact_rival(toy):
    printed, rows = toy
    assert list(rows) == ["eager", "tailkeep fused, k=1", "tailkeep fused, k=0.5"]
    for name, row in rows.items():
        assert f"\n{name:36} " in printed
        assert float(row["time_low"]) <= float(row["time"]) <= float(row["time_high"])
        assert row["fastest"] == row["leanest"] == "eager"
    assert float(rows["tailkeep fused, k=0.5"]["ideal"]) == pytest.approx(4 / 6)
    assert float(rows["tailkeep fused, k=1"]["gradient_error"]) < 1e-5
    assert "k=0.5: threshold 0." in printed
    assert "kept 0.5000" in printed


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's high-water mark")
@pytest.mark.slow
def test_peak_memory_counts_what_eager_holds_at_once(toy):
    _, rows = toy
    # log-probabilities, and the gradients of both sides of the softmax
    logits = 96 * 2000 * 4 / 2**20
    assert 2.5 * logits < float(rows["eager"]["peak_mib"]) < 5 * logits


@pytest.mark.slow
def test_a_rival_that_is_missing_or_fails_is_named_and_left_out(toy):
    printed, _ = toy
    assert "failed: TRL chunked log-probabilities from vocabulary 2000 on: ZeroDivisionError" in printed
    assert "skipped: cut-cross-entropy torch_compile: cannot import name 'linear_cross_entropy'" in printed


@pytest.mark.slow
def test_every_rival_is_measured_or_named(tmp_path):
    printed = run("--vocab", "2001", "--kept-fractions", "1", "--out", str(tmp_path / "loss.csv"))
    rows = rows_of(tmp_path / "loss.csv")
    named = [line for line in printed.splitlines() if line.startswith(("skipped: ", "failed: "))]
    assert len(rows) + len(named) == 9
    assert all(float(row["gradient_error"]) < 1e-5 for row in rows.values() if row["exact"] == "True")


def write_model_and_text(folder, *, words):
    """A tiny model with a tokenizer of words, and a text of so many."""
    tiny.new_model().save_pretrained(folder / "model")
    tokenizer = tiny.tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save_pretrained(folder / "model")
    (folder / "text.txt").write_text(" ".join(f"w{i % 90}" for i in range(words)), encoding="utf-8")


@pytest.mark.slow
def test_a_step_of_a_model_of_ones_own_is_compared_with_its_own_loss(tmp_path):
    write_model_and_text(tmp_path, words=200)
    file = tmp_path / "model.csv"
    printed = run(
        "--model",
        str(tmp_path / "model"),
        "--text",
        str(tmp_path / "text.txt"),
        "--thresholds",
        "1",
        "0.3",
        "--block",
        "32",
        "--out",
        str(file),
    )
    rows = rows_of(file)
    assert list(rows) == ["the model's own loss", "tailkeep attached, threshold 1", "tailkeep attached, threshold 0.3"]
    assert {row["fastest"] for row in rows.values()} == {"the model's own loss"}
    assert "3 blocks of 32 tokens of text.txt" in printed
    assert "threshold 1: kept 1.0000" in printed
    assert "threshold 0.3: kept " in printed


def test_a_folder_without_a_model_is_one_clear_line(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run("--model", str(tmp_path))
    assert "has no readable config.json" in caught.value.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_whole_step_is_compared_with_the_models_own_loss(tmp_path):
    file = tmp_path / "step.csv"
    printed = run("--step", "--layers", "1", "--vocab", "300", "--kept-fractions", "0.5", "--out", str(file))
    rows = rows_of(file)
    assert list(rows) == ["the model's own loss", "tailkeep fused, k=0.5"]
    assert {row["fastest"] for row in rows.values()} == {"the model's own loss"}
    assert "Llama of 0.0 million parameters" in printed


AUDIT, PAIRED = (Path(__file__).parents[1] / "benchmarks" / name for name in ("audit.py", "paired.py"))


def printed(script, *arguments, **more):
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, **more).stdout


@pytest.mark.slow
def test_a_training_is_timed_beside_the_loop_that_everybody_writes(tmp_path):
    script = LOSS.with_name("training.py")
    command = [sys.executable, script, "--rows", "32", "--rounds", "1", "--csv", tmp_path / "rounds.csv"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed[0].startswith("4096 tokens, 1 rounds, 1 thread")
    rivals = ["bare PyTorch loop", "tailkeep, cross-entropy", "tailkeep, truncated 0.99"]
    assert [line[:26].strip() for line in printed[2:]] == rivals
    with (tmp_path / "rounds.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == rivals
    assert all(float(seconds) > 0 for seconds in row.values())


@pytest.mark.slow
def test_the_laboratory_is_timed_beside_bare_loops_and_in_both_formats(tmp_path):
    write_model_and_text(tmp_path, words=2100)
    sizes = ["--steps", 1, "--windows", 2, "--rounds", 1, "--threads", 1]
    script = LOSS.with_name("lab.py")
    lines = printed(script, tmp_path / "model", "--text", tmp_path / "text.txt", *sizes).splitlines()
    assert lines[0].startswith("model: 0 M parameters, 1 threads, dtype auto is Precision(device='cpu', train=False")
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|") and "tokens/s" not in line]
    assert [(row[0], len(row)) for row in rows if row[0] in {"train", "decode", "score"}] == [
        ("train", 4), ("decode", 4), ("score", 4), ("train", 5), ("decode", 5), ("score", 5)
    ]  # fmt: skip
    assert {row[4] for row in rows if len(row) == 5} <= {"faster", "slower", "as fast", "which is"}
    (tmp_path / "text.txt").write_text("w1 w2", encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        printed(script, tmp_path / "model", "--text", tmp_path / "text.txt", *sizes)
    assert "2,049 are needed. Give a longer one." in caught.value.stderr


@pytest.mark.slow
def test_a_generation_is_timed_beside_bare_loops_over_what_it_worked_on(tmp_path):
    write_model_and_text(tmp_path, words=2100)
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_position_embeddings": 256}))
    (tmp_path / "text.txt").write_text(
        "".join(f"w{n} w{n + 1} is w{n % 7} .\n\n" for n in range(400)), encoding="utf-8"
    )
    questions = [
        {"context": f"w{n} w{n + 1} is w{n % 7} .", "sentence_true": "w1 is w2 .", "sentence_false": "w1 is w3 .",
         "location": n} for n in range(20)
    ]  # fmt: skip
    (tmp_path / "questions.json").write_text(json.dumps(questions), encoding="utf-8")
    script = LOSS.with_name("lab.py")
    lines = printed(script, tmp_path / "model", "--selection", tmp_path, "--threads", 1).splitlines()
    rows = {row[0]: row[1:] for row in (line.strip("| ").split(" | ") for line in lines if line.startswith("|"))}
    assert all(int(rows[phase][1]) >= 0 for phase in ("generate", "train", "measure", "all"))
    assert re.search(r"[1-9][\d,]* tokens trained on, [1-9][\d,]* written, [1-9][\d,]* scored", "\n".join(lines))


@pytest.mark.slow
def test_an_audit_is_timed_alone_with_each_extra_and_over_fresh_text(tmp_path):
    small = ["--parts", "speed", "scale", "--rounds", 1, "--bytes", 20_000, "--unit-bytes", 5_000, "--scale", 1, 2]
    found = printed(AUDIT, *small, "--out", tmp_path / "all.csv")
    for name in ("statistics", "with near-duplicates", "with zlib", "with zstd", "x1", "x2"):
        assert f"| {name} |" in found
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 6
    assert all(float(row["cpu_seconds"]) > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("copies", ["0", "0.2"])
def test_the_near_duplicates_of_a_corpus_are_those_that_were_put_in(copies, tmp_path):
    rng = random.Random(0)
    sentences = (" ".join(f"w{rng.randrange(500)}" for _ in range(12)) for _ in range(600))
    (tmp_path / "text.txt").write_text(". ".join(sentences), encoding="utf-8")
    script = EDIT.with_name("near_duplicates.py")
    command = [sys.executable, script, tmp_path / "text.txt", "--megabytes", "0.3", "--copies", copies]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cells = [cell.strip().replace(",", "") for cell in printed.splitlines()[-1].split("|")]
    documents, put_in, expected, counted = map(int, cells[2:6])
    assert counted == pytest.approx(expected, abs=6)
    assert expected <= put_in <= documents
    assert (put_in > 20) == (copies != "0")


@pytest.mark.slow
def test_an_audit_with_a_prior_is_timed_beside_its_forward_pass():
    found = printed(AUDIT, "--parts", "prior", "profile", "--rounds", 1, "--bytes", 20_000, "--subjects", "world")
    assert "| world |" in found
    assert "share of the time" in found


@pytest.mark.slow
def test_the_paired_texts_are_compared_and_halves_of_one_side(tmp_path):
    human, machine = (prose(64, words=12, seed=types, types=types) for types in (900, 40))
    tree = {"original": [f"The same. {text}" for text in human], "sampled": [f"The same. {text}" for text in machine]}
    (tmp_path / "x.raw_data.json").write_text(json.dumps(tree))
    arguments = ["--folder", tmp_path, "--splits", 1, "--permutations", 640, "--out", tmp_path / "all.csv"]
    found = printed(PAIRED, *arguments)
    assert "x, prepared: " in found
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["form"] for row in rows if row["flagged"] == "1"} == {"raw", "prepared"}
    alarms = next(line for line in found.splitlines() if line.startswith("| x |"))
    assert "| 640 | " in alarms


@pytest.mark.slow
def test_the_cost_of_an_edit_is_measured_over_sizes_and_workers(tmp_path):
    file = tmp_path / "edit.csv"
    small = ["--unit-bytes", "2000", "--scale", "1", "3", "--workers", "1", "2", "--rounds", "1"]
    command = [sys.executable, EDIT, "--parts", "scale", "workers", *small, "--out", file]
    environment = {name: value for name, value in os.environ.items() if name != "TAILKEEP_DATA"}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    rows = rows_of(file)
    assert list(rows) == ["x1", "x3", "local, 1", "local, 2", "ray, 1", "ray, 2"]
    assert 2 < int(rows["x3"]["tokens"]) / int(rows["x1"]["tokens"]) < 4
    assert all(float(row["seconds"]) > 0 for row in rows.values())
    assert "8 shards of 2,000 bytes, the whole command, 1 rounds" in printed


@pytest.mark.slow
def test_an_edit_is_compared_with_its_limit_and_the_published_way(tmp_path):
    file = tmp_path / "edit.csv"
    command = [sys.executable, EDIT, "--parts", "cost", "profile", "--subjects", "stories260k", "--rounds", "1"]
    if not os.environ.get("TAILKEEP_DATA"):
        pytest.skip("TAILKEEP_DATA names no folder with a real text and a real model")
    printed = subprocess.run([*command, "--out", file], capture_output=True, text=True, check=True).stdout
    rows = rows_of(file)
    assert list(rows) == ["(a) bare forward pass", "(b) tailkeep edit", "(c) published way"]
    assert len({row["tokens"] for row in rows.values()}) == 1
    # One rule flags the same tokens in both.
    assert rows["(b) tailkeep edit"]["flagged"] == rows["(c) published way"]["flagged"]
    assert "forward: body" in printed


@pytest.mark.slow
def test_an_edit_under_a_real_prior_is_compared_on_real_text(real_data, tmp_path):
    file, prior = tmp_path / "edit.csv", real_data / "priors" / "stories260k"
    command = [sys.executable, EDIT, "--parts", "cost", "--prior", prior, "--rounds", "1", "--bytes", "2000"]
    printed = subprocess.run([*command, "--out", file], capture_output=True, text=True, check=True).stdout
    assert "cost: stories260k" in printed
    assert "real text" in printed
    assert {row["subject"] for row in rows_of(file).values()} == {"stories260k"}


@pytest.mark.slow
def test_the_reliability_campaign_loses_nothing_and_accepts_no_damage(tmp_path):
    prior = Path(os.environ.get("TAILKEEP_DATA", "")) / "priors" / "stories260k"
    if not prior.is_dir():
        pytest.skip("no real prior: set TAILKEEP_DATA")
    command = [sys.executable, LOSS.with_name("reliability.py"), "--prior", prior, "--kills", "4", "--flips", "6"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "0 lost" in out
    assert "0 accepted in silence" in out
