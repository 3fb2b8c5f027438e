import importlib
import subprocess
import sys

import pytest

from tailkeep import lab
from tailkeep.errors import ConfigError
from tailkeep.lab.estimate import ArmEstimate, GenerationCost, _growth, _LoopTimer, _sum_up
from tailkeep.runs import Progress
from tests.lab.stubs import CallLog, trace_learners

TREE = {"learner": "gaussian", "generations": 4, "seeds": [0, 1, 2], "data": {"size": 50}, "arms": {"a": {}, "b": {}}}


estimate_module = importlib.import_module("tailkeep.lab.estimate")  # the package names the function so


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(estimate_module.time, "perf_counter", lambda: now[0])

    def advance(seconds):
        now[0] += seconds

    return advance


def left_after(clock, seconds_by_step, *, total=100):
    """The step after which a timer has seen enough of a loop, and what it says is missing."""
    timer = _LoopTimer()
    assert timer(Progress(0, total, "steps")) is False
    for step, seconds in enumerate(seconds_by_step, start=1):
        clock(seconds)
        if timer(Progress(step, total, "steps")):
            timer.close()
            return step, timer.missing_seconds
    timer.close()
    return None, timer.missing_seconds


def test_a_loop_is_left_after_a_few_steps_and_missing_ones_go_at_its_pace(clock):
    # The first step, which is slow, does not count in the pace.
    assert left_after(clock, [5] + [1] * 99) == (3, pytest.approx(97.0))


def test_fast_steps_go_on_for_two_seconds_and_slow_ones_end_after_fifteen(clock):
    assert left_after(clock, [0.125] * 100) == (16, 84 * 0.125)
    assert left_after(clock, [20] * 100) == (1, pytest.approx(99 * 20))


def test_a_loop_that_ends_by_itself_misses_nothing(clock):
    assert left_after(clock, [0.1] * 5, total=5) == (None, 0)


def test_several_loops_of_a_phase_add_up(clock):
    timer = _LoopTimer()
    for _ in range(3):
        timer(Progress(0, 10, "steps"))
        for step in (1, 2):
            clock(1)
            timer(Progress(step, 10, "steps"))
    timer.close()
    assert timer.missing_seconds == pytest.approx(3 * 8)


def estimates(config, **keys):
    first = GenerationCost({"train": 10, "sample": 2, "measure": 3}, 1000, 10)
    later = GenerationCost({"generate": 5, "train": 10, "sample": 2, "measure": 3}, 1000, 20)
    arms = [ArmEstimate(name, first, later, 15 + 3 * 20) for name in config.arms]
    return _sum_up(config, arms, keys.get("workers", 1))


def test_the_whole_run_is_all_chains_and_the_disk_holds_what_is_kept():
    config = lab.load(TREE)
    whole = estimates(config)
    assert whole.seconds == 6 * 75
    assert whole.finished_bytes == 6 * (10 + 3 * 20 + 1000)
    assert estimates(config, workers=4).seconds == 6 * 75 / 4
    assert estimates(config, workers=100).seconds == 75
    everything = estimates(lab.load({**TREE, "keep_models": "all"}))
    assert everything.finished_bytes == 6 * (10 + 3 * 20 + 4 * 1000)
    assert "6 chains (2 arms, 3 seeds), 1 process: about 0.12 h" in whole.lines()[-2]


@pytest.mark.parametrize(("keep_models", "models"), [("none", 1), ("last", 2), ("all", 4)])
def test_a_first_model_that_measures_later_generations_stays_beside_those_that_are_kept(keep_models, models):
    first = GenerationCost({}, 1000, 10, keeps_model=True)
    later = GenerationCost({}, 1000, 20)
    config = lab.load({**TREE, "keep_models": keep_models, "seeds": [0], "arms": {"a": {}}})
    finished = _sum_up(config, [ArmEstimate("a", first, later, 1)], 1).finished_bytes
    assert finished == 10 + 3 * 20 + models * 1000
    alone = lab.load({**TREE, "keep_models": keep_models, "seeds": [0], "generations": 1, "arms": {"a": {}}})
    assert _sum_up(alone, [ArmEstimate("a", first, first, 1)], 1).finished_bytes == 10 + 1000


def test_generations_that_are_not_recorded_are_neither_sampled_nor_measured():
    cost = GenerationCost({"generate": 5, "train": 10, "sample": 2, "measure": 3})
    assert cost.total(recorded=True) == 20
    assert cost.total(recorded=False) == 15


def test_the_command_prints_hours_and_disk_and_writes_no_run(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(lab.dump(lab.load(TREE)))
    arguments = [sys.executable, "-m", "tailkeep", "lab", str(file), "--estimate", "--workers", "2"]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=tmp_path)
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("a: generation 0 ")
    assert "6 chains (2 arms, 3 seeds), 2 processes: about" in lines[-2]
    assert lines[-1].startswith("disk: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]


def test_a_generation_0_that_arms_share_counts_once():
    config = lab.load({**TREE, "arms": {"a": {}, "b": {"record_every": 2}}})
    first, second = lab.estimate(config).arms
    assert first.later is second.later
    recorded, unrecorded = first.later.total(recorded=True), first.later.total(recorded=False)
    assert first.chain_seconds == pytest.approx(first.first.total(recorded=True) + 3 * recorded)
    assert second.chain_seconds == pytest.approx(unrecorded + 2 * recorded)


@pytest.mark.parametrize("order", [("one", "all"), ("all", "one")])
def test_arms_that_take_as_long_are_timed_by_the_one_with_the_most_generations(order):
    arms = {"one": {"generations": 1}, "all": {}}
    estimated = lab.estimate(lab.load({**TREE, "arms": {name: arms[name] for name in order}}))
    later = {arm.arm: arm.later for arm in estimated.arms}
    assert later["one"] is later["all"]
    assert "generate" in later["all"].seconds


def test_learners_from_python_are_timed_too_and_a_mapping_is_a_configuration():
    tree = {"learner": "user", "id": "trace", "version": "1", "generations": 3, "seeds": [4, 5]}
    with pytest.raises(ConfigError, match="'trace' was not passed"):
        lab.estimate(tree)
    call_log = CallLog()
    estimated = lab.estimate(tree, learners=trace_learners(call_log))
    assert [generation for generation, *_ in call_log.of("fit")] == [0, 1]
    assert (estimated.seeds, len(estimated.arms)) == (2, 1)


@pytest.mark.parametrize("learner", ["gaussian", "mixture", "regression"])
def test_a_fit_of_all_data_so_far_takes_longer_from_generation_to_generation(learner):
    arm = lab.load({"learner": learner, "generations": 9, "arms": {"a": {"regime": {"name": "accumulate"}}}}).arms["a"]
    growth = _growth(arm, None)
    assert [growth(generation, "train") for generation in (1, 3, 8)] == [1, 2, 4.5]
    assert growth(8, "generate") == 1
