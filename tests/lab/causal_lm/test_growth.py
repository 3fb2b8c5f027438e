"""Language models in a run that grows: what is added gives the bytes of a run made at once."""

import shutil

import pytest

from tailkeep import lab
from tailkeep.errors import FingerprintError
from tests.lab.causal_lm.tiny import config_tree, write_stories
from tests.runs.faults import FaultyStorage, content

ARMS = {
    "baseline": {},
    "stop": {"finetune": {"epochs": 0.1}},
    "truncated": {"loss": {"name": "truncated", "threshold": 0.5}},
}


@pytest.mark.slow
def test_a_second_seed_and_a_third_arm_are_added_and_generation_0_is_shared(tmp_path):
    text = write_stories(tmp_path)

    def run(folder, arms, seeds, generations):
        trained = set()

        def observe(event):
            if event.phase == "train":
                trained.add((event.arm, event.seed, event.generation))

        tree = config_tree(text, generations=generations, seeds=seeds, arms={arm: ARMS[arm] for arm in arms})
        lab.run(tree, tmp_path / folder, storage=FaultyStorage(), observe=observe)
        return trained

    assert len(run("grown", ["baseline", "stop"], [0], 2)) == 3
    assert run("grown", ["baseline", "stop"], [0, 1], 2) == {("baseline", 1, 0), ("baseline", 1, 1), ("stop", 1, 1)}
    added = run("grown", [*ARMS], [0, 1], 3)
    assert {chain for chain in added if chain[2] < 2} == {("truncated", s, g) for s in (0, 1) for g in (0, 1)}
    run("once", [*ARMS], [0, 1], 3)
    grown, once = (content(tmp_path / name / "cells", without=("timings.json",)) for name in ("grown", "once"))
    assert grown == once


@pytest.fixture(scope="module")
def first_generation(tmp_path_factory):
    """A finished run of generation 0, to be copied."""
    folder = tmp_path_factory.mktemp("first")
    tree = config_tree(write_stories(folder), generations=1, device="cpu")
    lab.run(tree, folder / "run", storage=FaultyStorage())
    return folder / "run", tree


@pytest.mark.parametrize("phase", ["train", "score", "decode"])
def test_another_number_format_is_another_arm(first_generation, phase):
    folder, tree = first_generation
    before = content(folder)
    with pytest.raises(FingerprintError, match=rf'arms.baseline.dtype.{phase}: "auto" there, "float32" here'):
        lab.run({**tree, "dtype": {phase: "float32"}, "generations": 2}, folder)
    assert content(folder) == before


def test_another_device_is_refused_unless_it_is_accepted_and_then_recorded(first_generation, tmp_path, monkeypatch):
    folder, tree = first_generation
    shutil.copytree(folder, tmp_path / "run")
    before = content(tmp_path / "run")
    monkeypatch.setattr("tailkeep.lab.learners.device_name", lambda _: "NVIDIA H100")
    line = 'device: "cpu" there, "NVIDIA H100" here'
    with pytest.raises(FingerprintError, match=f"another environment.*\n  {line}\nUse the same, or --accept-versions"):
        lab.run({**tree, "generations": 2}, tmp_path / "run")
    assert content(tmp_path / "run") == before
    directory = lab.run({**tree, "generations": 2}, tmp_path / "run", accept_versions=True)
    assert directory.record.history[-1].accepted == (line,)
    assert directory.generation_dir("baseline", 0, 1).done
