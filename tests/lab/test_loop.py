"""The loop, watched through a learner whose every number says where it came from."""

import json
from collections import Counter
from itertools import count

import numpy as np
import pytest

from tailkeep import lab
from tailkeep.lab.loop import phase_seed
from tests.lab.stubs import CallLog, trace_learners
from tests.runs.faults import FaultyStorage, content

TIMES = (".lock", "timings.json", "timings.jsonl", "config.yaml")
REGIMES = {
    "replace": {"name": "replace"},
    "accumulate": {"name": "accumulate"},
    "accumulate_subsample": {"name": "accumulate_subsample"},
    "mix": {"name": "mix", "real_share": 0.5},
    "regenerate": {"name": "regenerate", "fractions": 3},
}


class StoppedError(Exception):
    """The observer has seen enough."""


def run(folder, *, call_log=None, observe=lambda event: None, **keys):
    tree = {"learner": "user", "id": "trace", "version": "1", "generations": 3, **keys}
    learners = trace_learners(CallLog() if call_log is None else call_log)
    return lab.run(tree, folder, learners=learners, observe=observe, storage=FaultyStorage())


def stop_at(moment):
    """An observer that stops the run when it is told of its `moment`-th event."""
    numbers = count()

    def observe(event):
        if next(numbers) == moment:
            raise StoppedError

    return observe


def events_of(folder, **keys):
    seen = []
    run(folder, observe=seen.append, **keys)
    return seen


def models_in(folder):
    return [int(path.parent.name) for path in sorted(folder.glob("cells/baseline/0/*/model"))]


# The order of things


def test_a_generation_is_written_trained_sampled_and_measured_in_this_order(tmp_path):
    seen = [(event.generation, event.phase) for event in events_of(tmp_path, generations=2)]
    assert seen == [
        *((0, phase) for phase in ("train", "sample", "measure", None)),
        *((1, phase) for phase in ("generate", "train", "sample", "measure", None)),
    ]


def test_every_arm_runs_under_every_seed_seed_by_seed(tmp_path):
    seen = events_of(tmp_path, generations=1, seeds=[3, 1], arms={"b": {}, "a": {}})
    chains = [(event.seed, event.arm) for event in seen if event.phase is None]
    assert chains == [(3, "b"), (3, "a"), (1, "b"), (1, "a")]


def test_arms_share_their_seeds_and_seeds_do_not(tmp_path):
    call_log = CallLog()
    run(tmp_path, call_log=call_log, seeds=[0, 1], arms={"a": {}, "b": {"options": {"other": 1}}})
    chain = 3
    seeds = [seed for _, _, seed, _ in call_log.of("fit")]
    assert seeds[:chain] == seeds[chain : 2 * chain]
    assert len(set(seeds)) == 2 * chain


def test_no_two_phases_of_a_chain_share_a_seed():
    phases = ("generate", "train", "sample", "measure", "mix")
    seeds = {phase_seed(seed, g, phase) for seed in range(5) for g in range(50) for phase in phases}
    assert len(seeds) == 5 * 50 * 5
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_learner_is_given_the_stages_budget_and_its_predecessor(tmp_path):
    call_log = CallLog()
    run(tmp_path, call_log=call_log, regime=REGIMES["accumulate"])
    assert [(generation, budget) for generation, _, _, budget in call_log.of("fit")] == [(0, 6), (1, 6), (2, 6)]
    assert [len(data) for _, data, _, _ in call_log.of("fit")] == [6, 12, 18]


def test_the_cell_says_how_much_its_model_was_trained_on(tmp_path):
    directory = run(tmp_path, regime=REGIMES["accumulate"])
    assert [cell.metrics()["metrics"]["train_data_units"] for cell in directory.generation_dirs()] == [6, 12, 18]
    assert [cell.metrics()["metrics"]["train_units"] for cell in directory.generation_dirs()] == [6, 12, 18]


# What is recorded


@pytest.mark.parametrize(
    ("generations", "every", "recorded"),
    [(8, 3, [0, 3, 6, 7]), (7, 3, [0, 3, 6]), (4, 1, [0, 1, 2, 3]), (1, 5, [0]), (3, 10, [0, 2])],
)
def test_the_first_each_kth_and_the_last_generation_get_a_cell(tmp_path, generations, every, recorded):
    directory = run(tmp_path, generations=generations, record_every=every)
    assert [cell.generation for cell in directory.generation_dirs()] == recorded


@pytest.mark.parametrize(
    ("regime", "saved"),
    [("replace", {3: [3], 6: [6], 7: [7]}), ("accumulate", {3: [1, 2, 3], 6: [4, 5, 6], 7: [7]})],
)
def test_a_cell_holds_what_was_written_since_the_last_one_if_it_is_needed_again(tmp_path, regime, saved):
    directory = run(tmp_path, generations=8, record_every=3, regime=REGIMES[regime])
    result = {
        cell.generation: sorted(int(path.name) for path in cell.generated.iterdir())
        for cell in directory.generation_dirs()
        if cell.generation
    }
    assert result == saved


def test_how_often_is_recorded_changes_no_result(tmp_path):
    every, few = (run(tmp_path / str(k), generations=5, record_every=k) for k in (1, 4))
    assert few.generation_dir("baseline", 0, 4).metrics() == every.generation_dir("baseline", 0, 4).metrics()


# Which models stay


@pytest.mark.parametrize(("keep", "stay"), [("last", [2]), ("all", [0, 1, 2]), ("none", [])])
def test_of_a_finished_run_the_models_asked_for_stay(tmp_path, keep, stay):
    run(tmp_path, keep_models=keep)
    assert models_in(tmp_path) == stay


@pytest.mark.parametrize("keep", ["last", "none"])
def test_of_a_running_chain_only_the_newest_model_stays(tmp_path, keep):
    seen = []

    def observe(event):
        if event.phase == "train":
            seen.append(models_in(tmp_path))

    run(tmp_path, keep_models=keep, observe=observe)
    assert seen == [[], [0], [1]]


def test_a_finished_run_is_read_and_not_trained_again(tmp_path):
    run(tmp_path, keep_models="none")
    before = content(tmp_path)
    call_log = CallLog()
    run(tmp_path, keep_models="none", call_log=call_log)
    assert call_log.calls == []
    assert content(tmp_path) == before


# Resuming


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("every", [1, 2])
def test_a_run_stopped_before_any_phase_goes_on_and_ends_in_the_same_bytes(tmp_path, regime, every):
    keys = {"regime": REGIMES[regime], "generations": 4, "record_every": every, "seeds": [0]}
    events = events_of(tmp_path / "whole", **keys)
    expected = content(tmp_path / "whole", without=TIMES)
    for moment in range(len(events)):
        folder = tmp_path / str(moment)
        with pytest.raises(StoppedError):
            run(folder, observe=stop_at(moment), **keys)
        run(folder, **keys)
        assert content(folder, without=TIMES) == expected, events[moment]


@pytest.mark.parametrize("regime", REGIMES)
def test_no_finished_phase_is_done_a_second_time(tmp_path, regime):
    keys = {"regime": REGIMES[regime]}
    whole = CallLog()
    run(tmp_path / "whole", call_log=whole, **keys)
    for moment in range(len(events_of(tmp_path / "events", **keys))):
        call_log = CallLog()
        with pytest.raises(StoppedError):
            run(tmp_path / str(moment), call_log=call_log, observe=stop_at(moment), **keys)
        run(tmp_path / str(moment), call_log=call_log, **keys)
        work = [(verb, json.dumps(what)) for verb, what in call_log.calls if verb != "load"]
        assert Counter(work) == Counter((verb, json.dumps(what)) for verb, what in whole.calls), moment


def test_a_resumed_run_knows_how_long_its_finished_phases_took(tmp_path):
    moments = len(events_of(tmp_path / "whole"))
    for moment in range(moments):
        folder = tmp_path / str(moment)
        with pytest.raises(StoppedError):
            run(folder, observe=stop_at(moment))
        before = {path: json.loads(path.read_text()) for path in folder.glob("cells/*/*/*/timings.json")}
        directory = run(folder)
        for path, times in before.items():
            assert times.items() <= json.loads(path.read_text()).items()
        phases = [set(cell.timings()) for cell in directory.generation_dirs()]
        assert phases == [{"train", "sample", "measure"}, *[{"generate", "train", "sample", "measure"}] * 2]


def test_a_resumed_run_tells_of_every_generation_once(tmp_path):
    for moment in range(len(events_of(tmp_path / "whole"))):
        with pytest.raises(StoppedError):
            run(tmp_path / str(moment), observe=stop_at(moment))
        seen = events_of(tmp_path / str(moment))
        assert [event.generation for event in seen if event.phase is None] == [0, 1, 2]


def test_a_chain_that_inherits_resumes_from_its_predecessors_model(tmp_path):
    keys = {"generations": 4, "record_every": 2}
    with pytest.raises(StoppedError):
        run(tmp_path, observe=lambda event: _stop_in(event, 3), **keys)
    call_log = CallLog()
    run(tmp_path, call_log=call_log, **keys)
    assert call_log.of("load") == [2]
    assert [generation for generation, *_ in call_log.of("fit")] == [3]


def _stop_in(event, generation):
    if event.generation == generation:
        raise StoppedError


def test_samples_are_drawn_with_the_cells_own_seed(tmp_path):
    directory = run(tmp_path, seeds=[0, 1])
    firsts = {float(np.load(cell.samples / "common" / "values.npy")[0]) % 1 for cell in directory.generation_dirs()}
    assert len(firsts) == 6
