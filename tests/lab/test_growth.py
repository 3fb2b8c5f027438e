"""Runs that grow: seeds, arms and generations that are added to a finished run, and what is refused."""

import json
import os
import shutil

import pytest

from tailkeep import lab
from tailkeep.data.corpus.executors import LocalPool
from tailkeep.errors import ConfigError, FingerprintError, InputError
from tailkeep.lab.growth import merge_configs
from tailkeep.runs import RunDirectory
from tests.lab.stubs import CallLog, trace_learners
from tests.runs.faults import Fault, FaultyStorage, content, count_operations, interrupt

# Three arms of a stub: the first two differ in their regime alone, so they share generation 0.
ARMS = {
    "replace": {},
    "accumulate": {"regime": {"name": "accumulate"}},
    "other": {"options": {"other": 1}},
}
TIMES = ("timings.json",)


def tree_of(arms, **keys):
    return {"learner": "user", "id": "trace", "version": "1", "generations": 3, "arms": arms, **keys}


def run(folder, arms=tuple(ARMS), *, call_log=None, workers=1, observe=lambda event: None, options=None, **keys):
    tree = tree_of({arm: {**ARMS[arm], **(options or {}).get(arm, {})} for arm in arms}, **keys)
    allowed = {key: tree.pop(key) for key in ("recompute", "accept_versions") if key in tree}
    learners = trace_learners(CallLog() if call_log is None else call_log)
    return lab.run(tree, folder, learners=learners, storage=FaultyStorage(), observe=observe, **allowed)


def trained(call_log):
    """How many models were trained."""
    return len(call_log.of("fit"))


def cells(folder):
    return content(folder / "cells", without=TIMES)


def rows(folder):
    return sorted((folder / "metrics.jsonl").read_text().splitlines())


# What is added, and what is not done again


def test_a_fourth_seed_and_a_third_arm_compute_only_themselves_and_give_the_bytes_of_a_run_made_at_once(tmp_path):
    run(tmp_path / "grown", ("replace", "accumulate"), seeds=[0, 1, 2])
    before = cells(tmp_path / "grown")
    call_log = CallLog()
    run(tmp_path / "grown", ("replace", "accumulate"), seeds=[0, 1, 2, 3], call_log=call_log)
    # Seed 3 of two arms, three generations each, of which they share the first.
    assert trained(call_log) == 5
    call_log = CallLog()
    run(tmp_path / "grown", seeds=[0, 1, 2, 3], call_log=call_log)
    assert trained(call_log) == 4 * 3
    at_once = CallLog()
    run(tmp_path / "once", seeds=[0, 1, 2, 3], call_log=at_once)
    assert trained(at_once) == 4 * (3 + 2 + 3)
    assert cells(tmp_path / "grown") == cells(tmp_path / "once")
    assert before.items() <= cells(tmp_path / "grown").items()
    assert rows(tmp_path / "grown") == rows(tmp_path / "once")


def test_generations_are_added_where_the_run_ended(tmp_path):
    run(tmp_path / "grown", generations=2)
    call_log = CallLog()
    run(tmp_path / "grown", generations=4, call_log=call_log)
    assert sorted(generation for generation, *_ in call_log.of("fit")) == [2, 2, 2, 3, 3, 3]
    run(tmp_path / "once", generations=4)
    assert cells(tmp_path / "grown") == cells(tmp_path / "once")


def test_arms_that_differ_only_later_compute_generation_0_once_and_link_it(tmp_path):
    call_log = CallLog()
    directory = run(tmp_path, call_log=call_log)
    assert [generation for generation, *_ in call_log.of("fit")].count(0) == 2
    first, second = (directory.generation_dir(arm, 0, 0) for arm in ("replace", "accumulate"))
    assert first.fingerprint() == second.fingerprint()
    samples = [cell.samples / "common" / "values.npy" for cell in (first, second)]
    assert os.path.samefile(*samples)
    assert {**first.metrics(), "arm": "accumulate"} == second.metrics()
    # It took no time of its own.
    assert second.timings() == {}
    assert (
        directory.generation_dir("replace", 0, 1).fingerprint()
        != directory.generation_dir("accumulate", 0, 1).fingerprint()
    )


@pytest.mark.parametrize(
    ("first", "second", "firsts"),
    [
        ({"name": "regenerate", "fractions": 3}, {"name": "fresh_only", "fractions": 3}, 1),
        ({"name": "regenerate", "fractions": 3}, {"name": "regenerate", "fractions": 4}, 2),
        ({"name": "regenerate", "fractions": 3}, {"name": "replace"}, 2),
        ({"name": "regenerate", "fractions": 1}, {"name": "replace"}, 2),
    ],
)
def test_arms_share_generation_0_if_their_regimes_begin_with_the_same_part_of_the_data(first, second, firsts, tmp_path):
    call_log = CallLog()
    regimes = {"replace": {"regime": first}, "accumulate": {"regime": second}}
    run(tmp_path, ("replace", "accumulate"), options=regimes, call_log=call_log)
    fits = [json.dumps(what) for what in call_log.of("fit") if what[0] == 0]
    assert len(fits) == firsts
    # What is shared would have been computed alike.
    alone = CallLog()
    run(tmp_path / "alone", ("accumulate",), options=regimes, call_log=alone)
    assert json.dumps(next(what for what in alone.of("fit") if what[0] == 0)) == fits[-1]


@pytest.mark.parametrize("keep_models", ["last", "all", "none"])
def test_what_is_shared_does_not_depend_on_which_models_are_kept(tmp_path, keep_models):
    call_log = CallLog()
    run(tmp_path, ("replace", "accumulate"), keep_models=keep_models, call_log=call_log)
    assert trained(call_log) == 5
    models = sorted(path.parent.name for path in tmp_path.glob("cells/*/0/*/model"))
    assert models == {"last": ["2", "2"], "all": ["0", "0", "1", "1", "2", "2"], "none": []}[keep_models]


def test_a_generation_0_that_is_computed_again_for_want_of_its_model_is_told_of_once(tmp_path, caplog):
    run(tmp_path / "last", ("replace",), seeds=[0, 1])
    run(tmp_path / "last", seeds=[0, 1])
    (line,) = caplog.messages
    assert line.startswith("accumulate: generation 0 is computed again. That of replace is the same, but its model")
    run(tmp_path / "last", seeds=[0, 1, 2])
    run(tmp_path / "all", ("replace",), keep_models="all")
    run(tmp_path / "all", keep_models="all")
    assert caplog.messages == [line]


@pytest.mark.slow
def test_processes_share_generation_0_too(tmp_path):
    tree = {"learner": "mixture", "components": 3, "generations": 3, "data": {"size": 60, "modes": 3}, "seeds": [0, 1]}
    pytest.importorskip("sklearn")
    tree["arms"] = {"replace": {}, "accumulate": {"regime": {"name": "accumulate"}}}
    events = {1: [], 2: []}
    for workers, seen in events.items():
        lab.run(tree, tmp_path / str(workers), workers=workers, observe=seen.append)
    assert cells(tmp_path / "1") == cells(tmp_path / "2")
    assert sorted(map(str, events[1])) == sorted(map(str, events[2]))
    first, second = (tmp_path / "2" / "cells" / arm / "1" / "0" / "samples.sha256" for arm in tree["arms"])
    assert os.path.samefile(first, second)


class Watched:
    """An executor that writes down which chains each of its runs is given, and up to which generation."""

    def __init__(self, workers):
        self._pool, self.runs = LocalPool(workers), []
        self.open_queue = self._pool.open_queue

    def run(self, setup, items, *, meanwhile):
        self.runs.append([])
        return self._pool.run(setup, map(self._watch, items), meanwhile=meanwhile)

    def _watch(self, task):
        self.runs[-1].append((task.arm, task.until))
        return task


def test_a_worker_that_is_free_does_not_wait_for_the_generation_0_of_others(tmp_path):
    regimes = {"replace": {}, "accumulate": {"regime": {"name": "accumulate"}}}
    alone = {f"of-{size}": {"data": {"size": size, "modes": 3}} for size in (50, 60, 70, 80, 90)}
    pytest.importorskip("sklearn")
    tree = {"learner": "mixture", "components": 3, "generations": 2, "data": {"size": 40, "modes": 3}, "seeds": [0]}
    tree["arms"] = {**alone, **regimes}
    executor = Watched(2)
    lab.run(tree, tmp_path / "two", executor=executor)
    lab.run(tree, tmp_path / "one")
    first, rest = executor.runs
    # What is shared comes first, then chains that share none, for as long as it takes.
    assert first == [(arm, 1) for arm in ("replace", *alone)][: len(first)]
    assert len(first) > 1
    assert rest == [(arm, None) for arm in tree["arms"]]
    assert cells(tmp_path / "two") == cells(tmp_path / "one")


def test_every_generation_is_told_of_once(tmp_path):
    run(tmp_path, ("replace",))
    seen = []
    run(tmp_path, observe=seen.append)
    finished = [(event.arm, event.generation) for event in seen if event.phase is None]
    assert sorted(finished) == sorted((arm, generation) for arm in ARMS for generation in range(3))


def test_a_call_that_names_less_leaves_the_rest_as_it_is(tmp_path):
    run(tmp_path, seeds=[0, 1])
    before = content(tmp_path)
    call_log = CallLog()
    run(tmp_path, ("replace",), generations=2, call_log=call_log)
    assert call_log.calls == []
    assert content(tmp_path) == before


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_grows_ends_in_the_bytes_of_a_run_made_at_once(tmp_path):
    run(tmp_path / "once", seeds=[0, 1])
    expected = cells(tmp_path / "once")

    def grow(folder, storage):
        lab.run(tree_of(ARMS, seeds=[0, 1]), folder, learners=trace_learners(CallLog()), storage=storage)

    run(tmp_path / "first", ("replace",))
    shutil.copytree(tmp_path / "first", tmp_path / "counted")
    total = count_operations(lambda storage: grow(tmp_path / "counted", storage))
    for n in range(1, total, 5):
        folder = tmp_path / str(n)
        shutil.copytree(tmp_path / "first", folder)
        interrupt(lambda storage, folder=folder: grow(folder, storage), Fault(n, "killed", half=True))
        run(folder, seeds=[0, 1])
        assert cells(folder) == expected, n
        assert RunDirectory.open(folder).record.chains == RunDirectory.open(tmp_path / "once").record.chains


# What the record says


def test_the_record_says_when_what_was_added(tmp_path, monkeypatch):
    run(tmp_path, ("replace",))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    run(tmp_path, ("replace",), seeds=[1], generations=4)
    record = RunDirectory.open(tmp_path).record
    assert [(addition.at, addition.arms, addition.seeds) for addition in record.history] == [
        ("2023-11-14T22:13:20Z", {"replace": 3}, (0,)),
        ("2027-01-15T08:00:00Z", {"replace": 4}, (1,)),
    ]
    assert record.chains == {("replace", 0): 3, ("replace", 1): 4}
    assert record.seeds == (0, 1)


def test_the_configuration_of_a_grown_run_runs_it_again(tmp_path):
    run(tmp_path, ("replace",), description="the first")
    run(tmp_path, ("other",), seeds=[4], generations=5, name="ignored")
    config = lab.load(tmp_path / "config.yaml")
    assert list(config.arms) == ["replace", "other"]
    assert [arm.generations for arm in config.arms.values()] == [3, 5]
    assert (config.seeds, config.name, config.description) == ((0, 4), "lab", "the first")


def test_grids_grow_by_levels_and_no_other_way():
    def grid(*losses, axis="loss"):
        levels = {name: {"options": {"loss": name}} for name in losses}
        tree = {"learner": "user", "id": "x", "version": "1", "grid": {axis: levels}}
        return json.loads(lab.load(tree).model_dump_json())

    small, large, other = grid("a", "b"), grid("a", "b", "c"), grid("a", axis="form")
    for pair in ((small, large), (large, small)):
        assert "- c" in merge_configs(*pair)
    with pytest.raises(ConfigError, match=r"grid: the run has loss \(2 levels\)"):
        merge_configs(small, other)


# What is refused


def test_a_changed_arm_is_refused_and_recomputed_on_request(tmp_path):
    run(tmp_path, seeds=[0, 1])
    before = content(tmp_path)
    changed = {"options": {"other": {"options": {"other": 2}}}, "seeds": [0, 1]}
    with pytest.raises(FingerprintError, match=r"arms.other.options.other: 1 there, 2 here") as caught:
        run(tmp_path, **changed)
    assert "--recompute other" in str(caught.value)
    assert content(tmp_path) == before
    call_log = CallLog()
    run(tmp_path, **changed, recompute=["other"], call_log=call_log)
    assert trained(call_log) == 6
    run(tmp_path / "once", **changed)
    assert cells(tmp_path) == cells(tmp_path / "once")
    aside = content(tmp_path / "set_aside" / "other-1", without=TIMES)
    assert aside == {
        name.removeprefix("cells/other/"): bytes_
        for name, bytes_ in before.items()
        if name.startswith("cells/other/") and not name.endswith("timings.json")
    }
    assert lab.load(tmp_path / "config.yaml").arms["other"].options == {"other": 2}
    assert RunDirectory.open(tmp_path).record.history[-1].recomputed == ("other",)


def test_an_arm_is_recomputed_as_often_as_one_likes(tmp_path):
    run(tmp_path, ("other",))
    for number in (2, 3):
        run(tmp_path, ("other",), options={"other": {"options": {"other": number}}}, recompute=["other"])
    assert sorted(path.name for path in (tmp_path / "set_aside").iterdir()) == ["other-1", "other-2"]


def test_an_arm_is_recomputed_under_all_its_seeds_or_not_at_all(tmp_path):
    run(tmp_path, ("replace", "other"), seeds=[0, 1, 2])
    run(tmp_path, ("replace",), seeds=[4])
    before = content(tmp_path)
    message = r"the run has seeds 0, 1, 2 of that arm, and the call names 0, 3\. Name them all, with .*=\[0,1,2,3\]"
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, ("replace", "other"), seeds=[0, 3], recompute=["other"])
    assert content(tmp_path) == before
    call_log = CallLog()
    # Seed 4 is one of another arm.
    run(tmp_path, ("other",), seeds=[0, 1, 2], recompute=["other"], call_log=call_log)
    assert trained(call_log) == 9


@pytest.mark.parametrize(("arm", "match"), [("nobody", "no arm 'nobody' is both"), ("other", "no arm 'other' is both")])
def test_an_arm_that_is_not_there_cannot_be_recomputed(tmp_path, arm, match):
    with pytest.raises(ConfigError, match="there is no run at"):
        run(tmp_path, ("replace",), recompute=[arm])
    run(tmp_path, ("replace",))
    with pytest.raises(ConfigError, match=match):
        run(tmp_path, ("replace",), recompute=[arm])


def test_another_version_is_refused_unless_it_is_accepted_and_then_recorded(tmp_path, monkeypatch):
    run(tmp_path, generations=2)
    before = content(tmp_path)
    monkeypatch.setattr("tailkeep.lab.learners.versions", lambda *_: {"numpy": "0.1"})
    with pytest.raises(FingerprintError, match=r"another environment.*\n  packages.numpy: .* there, \"0.1\" here"):
        run(tmp_path, generations=3)
    assert content(tmp_path) == before
    call_log = CallLog()
    run(tmp_path, generations=3, accept_versions=True, call_log=call_log)
    assert [generation for generation, *_ in call_log.of("fit")] == [2, 2, 2]
    (line,) = RunDirectory.open(tmp_path).record.history[-1].accepted
    assert line.startswith("packages.numpy")
    # What was accepted once is known.
    run(tmp_path, generations=3)


def test_a_generation_is_never_of_two_environments(tmp_path, monkeypatch):
    def stop(event):
        if (event.generation, event.phase) == (1, "measure"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, ("replace",), observe=stop)
    monkeypatch.setattr("tailkeep.lab.learners.versions", lambda *_: {"numpy": "0.1"})
    call_log = CallLog()
    directory = run(tmp_path, ("replace",), accept_versions=True, call_log=call_log)
    assert [generation for generation, *_ in call_log.of("fit")] == [1, 2]
    hashes = [cell.fingerprint()["environment"] for cell in directory.generation_dirs()]
    assert hashes[0] != hashes[1] == hashes[2]


def test_an_arm_of_another_learner_brings_its_packages_without_a_question(tmp_path):
    arm = {"learner": "gaussian", "data": {"size": 8, "chains": 2}}
    run(tmp_path, ("replace",))
    lab.run({"generations": 3, "arms": {"normal": arm}}, tmp_path, storage=FaultyStorage())
    assert len(RunDirectory.open(tmp_path).record.sources["environments"]) == 2


def test_a_generation_of_other_inputs_is_refused(tmp_path):
    directory = run(tmp_path)
    cell = directory.generation_dir("other", 0, 1)
    path = cell.path / "fingerprint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "inputs": "0" * 64}))
    cell.finish()  # else the file would be damaged, and restored
    with pytest.raises(FingerprintError, match=r"cells/other/0/1 holds a generation of other inputs"):
        run(tmp_path)


def test_a_run_without_fingerprints_is_not_continued(tmp_path):
    run(tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    del record["history"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="written by an older version, whose generations have no fingerprints"):
        run(tmp_path)


def test_generations_cannot_follow_a_model_that_was_not_kept(tmp_path):
    run(tmp_path, ("replace",), generations=2, keep_models="none")
    with pytest.raises(InputError, match=r"generation 1 of replace, seed 0, has no model any more"):
        run(tmp_path, ("replace",), generations=3)


def test_a_last_generation_between_the_recorded_ones_is_no_beginning(tmp_path):
    run(tmp_path, ("replace",), generations=6, record_every=2)
    with pytest.raises(ConfigError, match="6 generations recorded every 2 end with generation 5, which a run of 7"):
        run(tmp_path, ("replace",), generations=7, record_every=2)
