import json

import numpy as np
import pytest

from tailkeep import lab
from tailkeep.lab.causal_lm.callbacks import CURVE_POINTS
from tailkeep.runs import RunDirectory
from tailkeep.runs.generation_dir import COLUMNS, read_speeds
from tests.lab.causal_lm.tiny import config_tree, write_stories

CHOICES = {"block": 8, "batch": 4, "epochs": 3, "arguments": {"lr_scheduler_type": "linear"}}
ARMS = {"baseline": {}, "truncated": {"loss": {"name": "random", "kept_fraction": 0.5}}}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The only generation of each arm."""
    folder = tmp_path_factory.mktemp("run")
    tree = config_tree(write_stories(folder), training=CHOICES, arms=ARMS, generations=1)
    lab.run(tree, folder / "run")
    return {cell.arm: cell for cell in RunDirectory.open(folder / "run").generation_dirs()}


def curve_of(cell):
    return {name: np.array(column) for name, column in cell.metrics()["tables"]["loss_curve"].items()}


def test_the_curve_goes_from_the_first_reading_to_the_last_step(cells):
    metrics, curve = cells["baseline"].metrics()["metrics"], curve_of(cells["baseline"])
    assert set(curve) == set(COLUMNS)
    assert curve["step"][-1] == metrics["train_steps"]
    assert (np.diff(curve["step"]) > 0).all()
    assert len(curve["step"]) <= CURVE_POINTS


def test_its_mean_is_the_cross_entropy_of_the_metrics(cells):
    metrics, curve = cells["truncated"].metrics()["metrics"], curve_of(cells["truncated"])
    # All steps but the last of a pass have about as many targets.
    assert curve["cross_entropy"].mean() == pytest.approx(metrics["train_nll"], rel=0.02)
    assert curve["kept_fraction"].mean() == pytest.approx(metrics["kept_fraction"], abs=0.05)


def test_it_has_the_loss_that_is_minimised_and_the_rate_of_the_schedule(cells):
    baseline, truncated = curve_of(cells["baseline"]), curve_of(cells["truncated"])
    assert baseline["loss"] == pytest.approx(baseline["cross_entropy"], rel=1e-4)
    assert (truncated["loss"] < truncated["cross_entropy"]).all()
    steps = baseline["step"][-1]
    assert baseline["learning_rate"] == pytest.approx(1e-3 * (1 - (baseline["step"] - 1) / steps))


def test_speeds_stand_beside_it_and_not_in_the_metrics(cells):
    speeds = read_speeds(cells["baseline"])["loss_curve"]
    assert len(speeds) == len(curve_of(cells["baseline"])["step"])
    assert min(speeds) > 0
    assert "tokens_per_second" not in json.dumps(cells["baseline"].metrics())
