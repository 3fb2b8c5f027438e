"""Damaged files of a run: report, show, pack and merge name the file in one line, and say what to do."""

import io
import json
import shutil

import pytest
from rich.console import Console

from tailkeep import report
from tailkeep.errors import TailkeepError
from tailkeep.lab.merge import merge_runs
from tailkeep.runs import RunDirectory
from tailkeep.runs.generation_dir import write_training_curve
from tailkeep.runs.pack import write_pack
from tests.report.built_runs import finish, new_run, write_texts

CURVE = {"step": [1], "loss": [1.0], "cross_entropy": [1.0], "kept_fraction": [1.0], "learning_rate": [0.1]}
DEEP = "[" * 100_000
CELL = "cells/baseline/0/0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    with new_run(path, arms=["baseline"], seeds=(0,), generations=1) as run:
        cell = run.generation_dir("baseline", 0, 0)
        write_texts(cell, "common", [("a", "b")])
        write_training_curve(cell, "model", CURVE, [3.0])
        finish(cell, {"held_out_nll": 2.0}, learner="causal_lm")
        (cell.path / "DONE").write_text("")  # as in a pack, which records no sha256
    return path


def read_by_all(path, out):
    """What each reader says of the run at `path`, without those that read it."""
    console = Console(file=io.StringIO())
    readers = {
        "report": lambda: (report.write(path), report.print_summary(path, console)),
        "show": lambda: report.show(path, console, samples=1),
        "pack": lambda: write_pack(path, out / "pack"),
        "merge": lambda: merge_runs([path], out / "merged"),
        "collect": lambda: RunDirectory.open(path).collect(),
    }
    said = {}
    for name, reader in readers.items():
        try:
            reader()
        except TailkeepError as error:
            said[name] = str(error)
    return said


def metrics(**change):
    tree = {"arm": "baseline", "seed": 0, "generation": 0, "learner": "causal_lm", "metrics": {"held_out_nll": 2.0}}
    return json.dumps({key: value for key, value in {**tree, "tables": {}, **change}.items() if value != "absent"})


def test_a_whole_run_is_read_by_all(whole, tmp_path):
    assert read_by_all(whole, tmp_path) == {}


EVERYONE = {"report", "show", "pack", "merge", "collect"}


@pytest.mark.parametrize(
    ("name", "content", "readers"),
    [
        (f"{CELL}/metrics.json", DEEP, EVERYONE),
        (f"{CELL}/metrics.json", metrics(arm="absent"), EVERYONE),
        (f"{CELL}/metrics.json", metrics(seed=1), EVERYONE),
        (f"{CELL}/metrics.json", metrics(learner=["x"]), EVERYONE),
        (f"{CELL}/metrics.json", metrics(metrics={"held_out_nll": "2"}), EVERYONE),
        (f"{CELL}/metrics.json", metrics(metrics={"held_out_nll": 10**400}), EVERYONE),
        (f"{CELL}/metrics.json", metrics(tables=[1]), EVERYONE),
        (f"{CELL}/timings.json", DEEP, EVERYONE - {"show"}),
        (f"{CELL}/timings.json", '{"train": {"a": 1}}', EVERYONE - {"show"}),
        (f"{CELL}/timings.json", '{"train": -1}', EVERYONE - {"show"}),
        (f"{CELL}/timings.json", '{"train": NaN}', EVERYONE - {"show"}),
        (f"{CELL}/training/model/timings.json", "{}", {"report", "pack"}),
        (f"{CELL}/training/model/timings.json", '{"tokens_per_second": ["x"]}', {"report", "pack"}),
        (f"{CELL}/samples/common/text.jsonl", '{"text": ' + DEEP, {"pack"}),
        ("config.yaml", "a: 1\n", EVERYONE - {"collect"}),
        (".config.yaml", "torn", set()),
    ],
)
def test_a_damaged_file_is_named_by_whoever_reads_it(whole, tmp_path, name, content, readers):
    run = shutil.copytree(whole, tmp_path / "run")
    (run / name).write_text(content)
    said = read_by_all(run, tmp_path)
    assert set(said) == readers
    for error in said.values():
        assert str(run / name) in error
        assert "\n" not in error
        assert error.endswith(".")


def test_a_config_without_a_copy_is_read_as_it_is_and_must_be_yaml(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    (run / ".config.yaml").unlink()
    (run / "config.yaml").write_text("name: other\narms: {baseline: 3}\n")
    assert not {"report", "show", "pack"} & set(read_by_all(run, tmp_path))
    for content in (b"- 1\n", b"a: \xff\n", b"a: [\n"):
        (run / "config.yaml").write_bytes(content)
        said = read_by_all(run, tmp_path / "again")
        assert {"report", "show", "merge"} <= set(said)
        assert all(str(run / "config.yaml") in error for error in said.values())


def test_damaged_times_are_no_results_and_begin_anew(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    (run / CELL / "timings.json").write_text("[")
    (cell,) = RunDirectory.open(run).generation_dirs()
    cell.add_timing("train", 2.0)
    assert cell.timings() == {"train": 2.0}
