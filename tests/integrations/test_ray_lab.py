"""Chains of a laboratory on a Ray cluster on this machine: the bytes are those of one process."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest

from tailkeep import lab
from tailkeep.errors import ConfigError
from tailkeep.integrations.ray import RayActors
from tailkeep.lab.run import _check_environment
from tests.integrations.test_ray import no_cluster  # noqa: F401  (an autouse fixture)
from tests.lab.small_lab import TREE, outcome

GROWING = {**TREE, "seeds": [0, 1]}
pytestmark = pytest.mark.filterwarnings("ignore:(subprocess \\d+ is still running|unclosed file):ResourceWarning")


def dying(setup, folder):
    """A setup whose first task ends with its process."""
    work = setup()

    def dies(task):
        with suppress(FileExistsError):
            (folder / "died").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return work(task)

    return dies


class Dying:
    """An executor of actors of which the first one that works is killed."""

    def __init__(self, folder):
        self._actors, self._folder = RayActors(2), folder
        self.open_queue = self._actors.open_queue

    def run(self, setup, items, *, meanwhile):
        return self._actors.run(partial(dying, setup, self._folder), items, meanwhile=meanwhile)


@pytest.mark.slow
def test_chains_on_ray_have_the_bytes_of_one_process_though_an_actor_is_killed(tmp_path):
    events = {"one": [], "ray": []}
    lab.run(GROWING, tmp_path / "one", observe=events["one"].append)
    lab.run(GROWING, tmp_path / "ray", executor=Dying(tmp_path), observe=events["ray"].append)
    assert (tmp_path / "died").exists()
    assert outcome(tmp_path / "ray") == outcome(tmp_path / "one")
    finished = {
        name: {str(replace(event, resumed=False)) for event in of_run if event.phase is None}
        for name, of_run in events.items()
    }
    assert finished["ray"] == finished["one"]


@pytest.mark.slow
def test_the_command_computes_on_ray_and_grows_the_run(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(lab.dump(lab.load(TREE)), encoding="utf-8")
    lab.run({**lab.load(TREE).model_dump(mode="json"), "seeds": [0, 1]}, tmp_path / "one")
    command = [sys.executable, "-m", "tailkeep", "lab", str(file), "--out", str(tmp_path / "ray"), "--executor", "ray"]
    for seeds in ("[0]", "[0, 1]"):
        done = subprocess.run([*command, "--set", f"seeds={seeds}"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    cells = {
        name: {k: v for k, v in outcome(tmp_path / name).items() if k.startswith("cells/")} for name in ("one", "ray")
    }
    assert cells["ray"] == cells["one"]


@pytest.mark.slow
def test_code_beside_the_configuration_is_found_by_actors_that_do_not_work_there(tmp_path, monkeypatch):
    (tmp_path / "beside").mkdir()
    (tmp_path / "elsewhere").mkdir()
    code = "def answer(model, samples):\n    return {'answer': 42.0}\n"
    (tmp_path / "beside" / "metric_of_actors.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "beside")
    monkeypatch.chdir(tmp_path / "elsewhere")
    tree = {**TREE, "metrics": ["metric_of_actors:answer"], "generations": 1}
    tree["arms"] = {"accumulate": TREE["arms"]["accumulate"]}
    directory = lab.run(tree, tmp_path / "run", executor=RayActors(1))
    assert directory.generation_dir("accumulate", 0, 0).metrics()["metrics"]["answer"] == 42.0


def test_a_worker_with_other_packages_is_refused(monkeypatch):
    config = lab.load(TREE)
    source = type("Source", (), {"environment": {"threads": 1, "packages": {"numpy": "0.1"}}})()
    request = type("Request", (), {"config": config, "sources": {"truncated": source}})()
    with pytest.raises(ConfigError, match=r"a worker differs in packages: .*numpy.*, where the command has"):
        _check_environment(request)
