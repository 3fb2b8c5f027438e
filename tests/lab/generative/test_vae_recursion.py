"""Whole runs of autoencoders: the recipes, and a killed run that ends in the same bytes."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from tailkeep import lab
from tests.lab.generative.idx_files import pair
from tests.lab.generative.small_vae import SMALL
from tests.lab.small_lab import outcome, run_though_killed
from tests.runs.faults import FaultyStorage

TREE = {
    **SMALL,
    "generations": 2,
    "evaluation": {"classifier_steps": 3},
    "device": "cpu",
    "arms": {
        "pixels": {"truncate": {"name": "pixels", "threshold": 0.9, "control": "random"}},
        "accumulate": {"regime": {"name": "accumulate"}},
    },
}
CUT_DOWN = [
    "seeds=[0]",
    "generations=2",
    "network.channels=2",
    "training.epochs=0.1",
    "evaluation.classifier_steps=3",
    "device=cpu",
]


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_run_that_was_killed_ends_in_the_same_bytes(tmp_path):
    lab.run(TREE, tmp_path / "whole", storage=FaultyStorage())
    assert run_though_killed(TREE, tmp_path / "killed") == 8
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    assert not [path for path in (tmp_path / "whole").rglob("*") if path.suffix in {".pt", ".pkl", ".bin"}]


def test_the_recipe_of_digits_runs_and_trains_its_arms_equally(tmp_path):
    config = lab.load("vae", overrides=[*CUT_DOWN, "data.held_out=1700"])
    lab.run(config, tmp_path, storage=FaultyStorage())
    rows = rows_of(tmp_path)
    assert {row["arm"] for row in rows} == set(config.arms)
    assert len(rows) == 2 * len(config.arms) == 14
    assert len({row["train_units"] for row in rows}) == 1


def test_the_recipe_of_mnist_runs_on_idx_files_with_every_preset(tmp_path):
    paths = {}
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        paths[name] = pair(tmp_path / name, images=60, side=28, ending=".gz")
    files = [f"data.{what}={path}" for what, path in zip(("images", "labels"), paths["train"], strict=True)]
    test = [f"data.test.{what}={path}" for what, path in zip(("images", "labels"), paths["test"], strict=True)]
    presets = {"quick": ["data.take=60", "data.held_out=20"], "full": test}
    for preset, keys in presets.items():
        config = lab.load("mnist", overrides=[*CUT_DOWN, f"preset={preset}", *files, *keys])
        assert config.arms["baseline"].training.batch == {"quick": 128, "full": 256}[preset]
        lab.run(config, tmp_path / preset, storage=FaultyStorage())
        rows = rows_of(tmp_path / preset)
        assert {row["train_data_units"] for row in rows if row["arm"] == "baseline"} == {
            40.0 if preset == "quick" else 60.0
        }


def test_the_same_files_in_another_folder_are_the_same_run(tmp_path):
    fingerprints = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder).mkdir()
        images, labels = pair(tmp_path / folder, seed=seed)
        data = {"name": "idx", "images": str(images), "labels": str(labels), "held_out": 10}
        run = lab.run(
            {**SMALL, "data": data, "generations": 1, "device": "cpu"},
            tmp_path / folder / "run",
            storage=FaultyStorage(),
        )
        fingerprints.append(run.record.fingerprint)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
