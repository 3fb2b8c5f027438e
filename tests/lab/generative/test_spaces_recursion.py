"""Whole runs of flows and GANs: the recipes, and a killed run that ends in the same bytes."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from tailkeep import lab
from tests.lab.generative.idx_files import pair
from tests.lab.small_lab import outcome, raising
from tests.runs.faults import FaultyStorage

TINY = {"network": {"width": 4, "layers": 1}, "training": {"epochs": 1}, "device": "cpu", "generations": 2}
RING = {"name": "modes", "layout": "ring", "modes": 3, "size": 30}
TREES = {
    "flow": {
        **TINY,
        "learner": "flow",
        "data": RING,
        "solver_steps": 2,
        "arms": {
            "loss": {"truncate": {"name": "loss", "control": "random"}},
            "likely": {"truncate": {"name": "likely"}, "regime": {"name": "accumulate"}},
        },
    },
    "gan": {
        **TINY,
        "learner": "gan",
        "data": {"name": "moons", "size": 30},
        "arms": {
            "baseline": {"regime": {"name": "accumulate"}},
            "confident": {"truncate": {"of": "discriminator", "control": "random"}},
        },
    },
}
CUT_DOWN = ["seeds=[0]", "generations=2", "network.width=4", "training.epochs=0.5", "device=cpu"]


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("learner", TREES)
def test_a_run_that_was_killed_ends_in_the_same_bytes(learner, tmp_path):
    lab.run(TREES[learner], tmp_path / "whole", storage=FaultyStorage())
    struck = set()

    def observe(event):
        phase = (event.arm, event.generation, event.phase)
        if event.phase in {"train", "measure"} and phase not in struck:
            struck.add(phase)
            raising(KeyboardInterrupt())(event)

    for _ in range(8):
        with pytest.raises(KeyboardInterrupt):
            lab.run(TREES[learner], tmp_path / "killed", storage=FaultyStorage(), observe=observe)
    lab.run(TREES[learner], tmp_path / "killed", storage=FaultyStorage(), observe=observe)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    assert not [path for path in (tmp_path / "whole").rglob("*") if path.suffix in {".pt", ".pkl", ".bin"}]


@pytest.mark.parametrize("recipe", ["flow", "gan"])
@pytest.mark.parametrize("digits", [False, True])
def test_a_recipe_runs_and_trains_its_arms_equally(recipe, digits, tmp_path):
    keys = ["data.held_out=40", "training.epochs=0.1", "evaluation.classifier_steps=3"] if digits else ["data.size=60"]
    config = lab.load(f"{recipe}-digits" if digits else recipe, overrides=[*CUT_DOWN, *keys])
    lab.run(config, tmp_path, storage=FaultyStorage())
    rows = rows_of(tmp_path)
    assert {row["arm"] for row in rows} == set(config.arms)
    assert len(rows) == 2 * len(config.arms)
    assert len({row["train_steps"] for row in rows}) == 1


@pytest.mark.parametrize("recipe", ["flow-digits", "gan-digits"])
def test_the_recipes_of_digits_read_images_from_idx_files(recipe, tmp_path):
    images, labels = pair(tmp_path, images=60, side=28, ending=".gz")
    data = ["data.name=idx", f"data.images={images}", f"data.labels={labels}", "data.held_out=20"]
    config = lab.load(recipe, overrides=[*CUT_DOWN, *data, "evaluation.classifier_steps=3"], arms=["baseline"])
    lab.run(config, tmp_path / "run", storage=FaultyStorage())
    assert [row["train_data_units"] for row in rows_of(tmp_path / "run")] == [40.0, 40.0]


def test_what_is_dumped_can_be_run(tmp_path):
    path = tmp_path / "dumped.yaml"
    for recipe in ("flow", "flow-digits", "gan", "gan-digits"):
        path.write_text(lab.dump(lab.load(recipe)))
        assert lab.load(path) == lab.load(recipe)
