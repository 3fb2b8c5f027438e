"""Trackers: what TensorBoard and Weights & Biases get of a run, and that it changes no result."""

import sys

import pytest

from tailkeep import lab
from tailkeep.lab import loop, phase
from tests.lab.causal_lm.tiny import SHAPE, config_tree, write_stories
from tests.runs.faults import content

# What stands in for the package: it records each run and what it is told, and cannot be told anything without one.
WANDB = """
runs = []
run = None
config = {}

class Run:
    def __init__(self, name):
        self.name, self.steps, self.summary, self.finished = name, [], {}, False

    def _label(self, **labels):
        pass

def init(*, project, name):
    global run
    run = Run(name)
    runs.append(run)

def log(values):
    run.steps.append(values["train/global_step"])

def finish():
    global run
    if run is not None:
        run.finished, run = True, None
"""


@pytest.fixture(autouse=True)
def always_due(monkeypatch):
    """Tell of every step, and write a checkpoint at every reading of the curve."""
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_EVENTS", 0.0)
    monkeypatch.setattr(phase, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(phase, "MAX_SHARE", float("inf"))


def tree_of(folder, **changes):
    training = {"block": 8, "batch": 8, "epochs": 1, **changes.pop("training", {})}
    return config_tree(write_stories(folder), training=training, keep_models="all", **changes)


def run_interrupted(tree, out, step):
    """Run `tree` until `step` of the training of generation 1, and again to its end."""

    def stop(event):
        if (event.generation, event.phase) == (1, "train") and event.progress and event.progress.done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.run(tree, out, observe=stop)
    seen = []
    lab.run(tree, out, observe=seen.append)
    assert any(event.progress and event.progress.resumed for event in seen)


def results(folder):
    """The models and samples of every generation, and what was measured."""
    parts = {"model", "samples", "metrics.json"}
    return {name: what for name, what in content(folder / "cells").items() if parts & {*name.split("/")[3:4]}}


def losses(folder):
    """The steps of the training loss in each of the event files in `folder`, oldest first."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    read = [accumulator(str(file)).Reload() for file in sorted(folder.glob("events.out.tfevents.*"))]
    return [
        [scalar.step for scalar in events.Scalars("train/loss")] if "train/loss" in events.Tags()["scalars"] else []
        for events in read
    ]


def test_tensorboard_has_the_curve_of_every_generation_and_a_resumed_one_goes_on_in_it(tmp_path):
    pytest.importorskip("tensorboard")
    run_interrupted(tree_of(tmp_path, training={"arguments": {"report_to": "tensorboard"}}), tmp_path / "run", 3)
    cell = tmp_path / "run" / "cells" / "baseline" / "0"
    (whole,) = losses(cell / "0" / "tensorboard")
    before, after = losses(cell / "1" / "tensorboard")
    assert whole == list(range(1, len(whole) + 1))
    assert [*before, *after] == list(range(1, len(before) + len(after) + 1))
    assert before
    assert after
    lab.run(tree_of(tmp_path), tmp_path / "without")
    assert results(tmp_path / "run") == results(tmp_path / "without")


def test_each_member_of_an_ecosystem_has_a_curve_of_its_own(tmp_path):
    pytest.importorskip("tensorboard")
    model = {"name": "scratch", "type": "llama", "config": SHAPE}
    tree = tree_of(tmp_path, training={"arguments": {"report_to": "tensorboard"}}, generations=1)
    del tree["model"]
    tree |= {"learner": "ecosystem", "members": [{"name": name, "model": model, "share": 0.5} for name in "ab"]}
    directory = lab.run(tree, tmp_path / "run")
    folder = directory.generation_dir("baseline", 0, 0).path / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
    assert all(losses(path)[0] for path in folder.iterdir())


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    """A package that transformers takes for Weights & Biases."""
    package = tmp_path / "packages" / "wandb"
    (package / "sdk" / "lib").mkdir(parents=True)
    for folder in (package / "sdk", package / "sdk" / "lib"):
        (folder / "__init__.py").touch()
    (package / "__init__.py").write_text(WANDB)
    (package / "sdk" / "lib" / "config_util.py").write_text("class ConfigError(Exception):\n    pass\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(package.parent)
    import wandb

    yield wandb
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        del sys.modules[name]


def test_each_generation_is_a_run_of_its_own_in_wandb_however_it_ends(tmp_path, wandb):
    arguments = {"report_to": "wandb", "run_name": "mine"}
    run_interrupted(tree_of(tmp_path, training={"arguments": arguments}), tmp_path / "run", 3)
    assert [run.name for run in wandb.runs] == ["mine/baseline/0/0", "mine/baseline/0/1", "mine/baseline/0/1"]
    assert all(run.finished for run in wandb.runs)
    whole, before, after = (run.steps for run in wandb.runs)
    assert whole[:2] == [1, 2]
    assert before == [1, 2, 3][: len(before)]
    assert after[0] == len(before) + 1
    assert all("train_loss" in run.summary for run in wandb.runs[::2])
