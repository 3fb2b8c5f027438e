"""One call of `lab.run`: what it refuses before it writes, worker processes, and a caller's own learners and losses."""

import importlib
import os
import signal
import subprocess
import sys

import pytest
from threadpoolctl import threadpool_info

from tailkeep import lab
from tailkeep.data.corpus.executors import LocalPool
from tailkeep.errors import ConfigError, FingerprintError, InputError, WorkerError
from tests.lab.small_lab import TREE, outcome, raising, run
from tests.lab.stubs import CallLog, trace_learners
from tests.runs.faults import FaultyStorage, content

USER = {"learner": "user", "id": "trace", "version": "1", "generations": 2}
# Hours of work: whoever waited for it would be noticed.
ENDLESS = {"learner": "gaussian", "generations": 10**6, "record_every": 10**6, "data": {"size": 2000}}


# Where the result comes from


def test_a_run_is_a_function_of_its_configuration(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b")
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")


def test_a_configuration_a_mapping_and_a_file_give_the_same_run(tmp_path):
    (tmp_path / "own.yaml").write_text(lab.dump(lab.load(TREE)))
    for name, config in {"a": TREE, "b": lab.load(TREE), "c": tmp_path / "own.yaml"}.items():
        lab.run(config, tmp_path / name, storage=FaultyStorage())
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b") == outcome(tmp_path / "c")


def test_the_dumped_configuration_of_a_run_runs_it_again(tmp_path):
    run(tmp_path / "a")
    before = content(tmp_path / "a")
    lab.run(tmp_path / "a" / "config.yaml", tmp_path / "a")
    assert content(tmp_path / "a") == before


def test_an_arms_result_does_not_depend_on_the_other_arms(tmp_path):
    run(tmp_path / "both")
    run(tmp_path / "one", arms={"truncated": TREE["arms"]["truncated"]})
    arm = "cells/truncated"
    both, one = (content(tmp_path / name / arm, without=("timings.json",)) for name in ("both", "one"))
    assert both == one


@pytest.mark.parametrize("keys", [{"num_threads": 2}, {"data": {"size": 9}}])
def test_other_settings_are_another_run(tmp_path, keys):
    run(tmp_path)
    with pytest.raises(FingerprintError, match="What differs") as caught:
        run(tmp_path, **keys)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "keys", [{"name": "other"}, {"description": "other"}, {"keep_models": "none"}, {"device": "cpu"}]
)
def test_what_changes_no_result_is_no_other_run(tmp_path, keys):
    run(tmp_path)
    run(tmp_path, **keys)


# What is refused


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"regime": {"name": "regenerate", "fractions": 9}, "arms": {"a": {}}},
            "8 examples cannot be split into 9 parts",
        ),
        ({"arms": {"a": {}, "b": {"learner": "user", "id": "mine", "version": "1"}}}, "'mine' was not passed"),
    ],
)
def test_what_can_be_refused_is_refused_before_a_folder_is_made(tmp_path, keys, message):
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "run", **keys)
    assert not (tmp_path / "run").exists()


def test_no_workers_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"workers must be >= 1, got 0\."):
        lab.run(TREE, tmp_path / "run", workers=0)


def test_workers_beside_an_executor_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"workers=2, but an executor brings its own workers"):
        lab.run(TREE, tmp_path / "run", workers=2, executor=LocalPool(2))
    with pytest.raises(ConfigError, match=r"an executor: user learners, losses and storage run in one process"):
        lab.run(TREE, tmp_path / "run", storage=FaultyStorage(), executor=LocalPool(2))


def test_an_observer_that_fails_ends_a_run_on_workers_with_its_error(tmp_path):
    with pytest.raises(KeyError):
        lab.run(TREE, tmp_path / "run", workers=2, observe=raising(KeyError()))


# Threads


def limits():
    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_limit_of_threads_ends_with_the_run(tmp_path, workers):
    before = limits()
    lab.run({**TREE, "num_threads": 1}, tmp_path / "run", workers=workers)
    assert limits() == before


def test_the_limit_of_threads_ends_with_a_run_that_fails(tmp_path):
    before = limits()
    with pytest.raises(KeyError):
        lab.run(TREE, tmp_path / "run", observe=raising(KeyError()), storage=FaultyStorage())
    assert limits() == before


@pytest.mark.parametrize("learner", ["gaussian", "mixture"])
def test_every_library_that_computes_is_limited_even_if_the_run_loads_it(tmp_path, learner):
    if learner == "mixture":
        pytest.importorskip("sklearn")
    # OpenMP and BLAS are told to start with three threads, so that a limit of one is seen on any machine.
    code = f"""
import sys
from pathlib import Path
from threadpoolctl import threadpool_info
from tailkeep import lab
assert "sklearn" not in sys.modules
seen = set()
def observe(event):
    seen.update(pool["num_threads"] for pool in threadpool_info())
data = {{"size": 60, **({{"modes": 4}} if {learner!r} == "mixture" else {{}})}}
components = {{"components": 4}} if {learner!r} == "mixture" else {{}}
tree = {{"learner": {learner!r}, "generations": 2, "data": data, **components}}
lab.run(tree, Path({str(tmp_path / "run")!r}), observe=observe)
print(sorted(seen))
"""
    threads = {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
    ended = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **threads}
    )
    assert ended.stdout.strip() == "[1]"


# Worker processes


def test_workers_change_neither_bytes_nor_what_is_told(tmp_path):
    observed = {1: [], 2: []}
    for workers, events in observed.items():
        tree = {**TREE, "seeds": [0, 1]}
        lab.run(tree, tmp_path / str(workers), workers=workers, observe=events.append)
    assert outcome(tmp_path / "1") == outcome(tmp_path / "2")
    assert sorted(map(str, observed[1])) == sorted(map(str, observed[2]))


def test_more_workers_than_chains_are_not_started(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("tailkeep.lab.run"), "LocalPool", None)
    lab.run({**TREE, "arms": {"a": {}}}, tmp_path / "run", workers=8)


def test_a_failing_arm_in_a_worker_is_the_same_error_as_in_this_process(tmp_path):
    bad = {"learner": "mixture", "components": 7, "data": {"size": 6}}
    tree = {**TREE, "arms": {**TREE["arms"], "bad": bad}}
    messages = []
    for workers in (1, 2):
        with pytest.raises(InputError, match=r"^7 components need at least 7 points, got 6 of 6 after drop") as caught:
            lab.run(tree, tmp_path / str(workers), workers=workers)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_failing_arm_does_not_wait_for_the_others(tmp_path):
    bad = {"learner": "mixture", "components": 7, "data": {"size": 6}}
    with pytest.raises(InputError):
        lab.run({"arms": {"endless": ENDLESS, "bad": bad}}, tmp_path / "run", workers=2)


def test_an_interrupt_ends_the_workers_and_the_run_resumes(tmp_path):
    tree = {"arms": {"a": ENDLESS, "b": ENDLESS}}
    with pytest.raises(KeyboardInterrupt):
        lab.run(tree, tmp_path / "run", workers=2, observe=raising(KeyboardInterrupt()))
    # The lock is free and no child lives that could write: a run of one process is let in.
    with pytest.raises(KeyboardInterrupt):
        lab.run(tree, tmp_path / "run", observe=raising(KeyboardInterrupt()))


def test_a_worker_that_is_killed_is_one_clear_error(tmp_path):
    children = set()

    def observe(_):
        import multiprocessing

        # One that has just ended its work may die unnoticed, so the next one dies too.
        for child in multiprocessing.active_children():
            if child.pid not in children:
                children.add(child.pid)
                os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(WorkerError, match=r"a worker process was killed \(out of memory\?\).*fewer workers"):
        lab.run({"arms": {"a": ENDLESS, "b": ENDLESS}}, tmp_path / "run", workers=2, observe=observe)
    assert children


# A caller's own learner


def test_a_learner_of_ones_own_runs_and_is_named_in_the_cells(tmp_path):
    directory = lab.run({**USER, "options": {"depth": 2}}, tmp_path, learners=trace_learners(CallLog()))
    assert [cell.metrics()["learner"] for cell in directory.generation_dirs()] == ["trace", "trace"]
    assert directory.record.sources["arms"]["baseline"]["options"] == {"depth": 2}


def test_a_learner_of_ones_own_is_given_its_options_and_the_seed(tmp_path):
    arguments = []
    trace = trace_learners(CallLog())["trace"]

    def build(options, seed):
        arguments.append((dict(options), seed))
        return trace(options, seed)

    lab.run({**USER, "options": {"depth": 2}, "seeds": [4, 5]}, tmp_path, learners={"trace": build})
    assert arguments[-2:] == [({"depth": 2}, 4), ({"depth": 2}, 5)]


@pytest.mark.parametrize(("key", "value"), [("version", "2"), ("id", "other"), ("options", {"depth": 3})])
def test_a_changed_learner_of_ones_own_is_another_run(tmp_path, key, value):
    learners = {**trace_learners(CallLog()), "other": trace_learners(CallLog())["trace"]}
    lab.run(USER, tmp_path, learners=learners)
    with pytest.raises(FingerprintError, match=key):
        lab.run({**USER, key: value}, tmp_path, learners=learners)


def test_a_learner_that_was_not_handed_over_is_named_with_the_call_that_does(tmp_path):
    with pytest.raises(ConfigError, match=r"the learner 'trace' was not passed.*learners=\{'trace': \.\.\.\}"):
        lab.run(USER, tmp_path / "run")


def test_a_study_with_a_learner_of_ones_own_needs_its_version():
    with pytest.raises(ConfigError, match="the key 'version' is missing"):
        lab.load({"learner": "user", "id": "trace"})


@pytest.mark.parametrize(
    "extension",
    [{"learners": trace_learners(CallLog())}, {"losses": {"mine": lambda options: None}}, {"storage": FaultyStorage()}],
    ids=lambda extension: next(iter(extension)),
)
def test_what_cannot_cross_into_another_process_needs_one_worker(tmp_path, extension):
    with pytest.raises(ConfigError, match=r"workers=2.*run in one process\. Use workers=1"):
        lab.run(TREE, tmp_path / "run", workers=2, **extension)
    assert not (tmp_path / "run").exists()


# How many workers


def test_by_default_each_worker_has_its_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert lab.default_workers(lab.load({"learner": "gaussian"})) == 8
    assert lab.default_workers(lab.load({"learner": "gaussian", "num_threads": 3})) == 2
    assert lab.default_workers(lab.load({"learner": "gaussian", "num_threads": 99})) == 1


def test_a_language_model_on_a_gpu_has_one_worker(monkeypatch):
    torch = pytest.importorskip("torch")
    tree = {"learner": "causal_lm", "data": {"name": "world"}, "model": {"name": "scratch"}}
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert lab.default_workers(lab.load(tree)) == 1
    assert lab.default_workers(lab.load({**tree, "device": "cpu"})) == 8
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert lab.default_workers(lab.load(tree)) == 8


# Who watches


@pytest.mark.parametrize("notebook", [True, False])
def test_progress_is_shown_in_a_notebook_and_nowhere_else_unless_asked_for(notebook, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: notebook)
    run(tmp_path)
    assert ("6/6 cells" in capsys.readouterr().err) == notebook


def test_an_observer_replaces_what_a_notebook_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    events = []
    lab.run(TREE, tmp_path, observe=events.append)
    assert events
    assert capsys.readouterr().err == ""
