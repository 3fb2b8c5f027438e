import pytest

from tailkeep.errors import InputError
from tailkeep.report.lab.run import UnfinishedChain, read_lab_run
from tailkeep.report.lab.sentences import unfinished_lines
from tests.report.built_runs import finish, new_run


def test_arms_stand_in_the_order_of_the_config(tmp_path):
    with new_run(tmp_path / "r", arms=["zulu", "alpha", "mike"], seeds=(0,), generations=1) as run:
        for arm in ("alpha", "mike", "zulu"):
            finish(run.generation_dir(arm, 0, 0), {"score": 1.0}, learner="custom")
    lab_run = read_lab_run(tmp_path / "r")
    assert lab_run.arms == ("zulu", "alpha", "mike")
    assert lab_run.groups[0].arms == ("zulu", "alpha", "mike")


def test_an_unfinished_generation_is_named_and_not_read(tmp_path):
    with new_run(tmp_path / "r", arms=["a"], seeds=(0,), generations=3) as run:
        finish(run.generation_dir("a", 0, 0), {"score": 1.0}, learner="custom")
        run.generation_dir("a", 0, 1).path.mkdir(parents=True)
        (run.generation_dir("a", 0, 1).path / "metrics.json").write_text("half a fi")
    lab_run = read_lab_run(tmp_path / "r")
    assert [entry.generation for entry in lab_run.groups[0].entries] == [0]
    assert lab_run.unfinished == (UnfinishedChain("a", 0, 0, 1),)


def test_an_arm_that_has_not_started_is_unfinished_under_each_seed(tmp_path):
    with new_run(tmp_path / "r", arms=["a", "b"], seeds=(3, 4), generations=1) as run:
        for seed in (3, 4):
            finish(run.generation_dir("a", seed, 0), {"score": 1.0}, learner="custom")
    assert read_lab_run(tmp_path / "r").unfinished == (
        UnfinishedChain("b", 3, None, None),
        UnfinishedChain("b", 4, None, None),
    )


def test_a_finished_run_has_no_unfinished_chain_and_an_arm_may_be_shorter(numbers):
    assert read_lab_run(numbers).unfinished == ()


def test_a_generation_missing_before_the_last_one_leaves_a_chain_unfinished(tmp_path):
    with new_run(tmp_path / "r", arms=["a"], seeds=(0, 1), generations=5, record_every=2) as run:
        for seed, recorded in enumerate([(0, 2, 4), (0, 4)]):
            for generation in recorded:
                finish(run.generation_dir("a", seed, generation), {"score": 1.0}, learner="custom")
    unfinished = read_lab_run(tmp_path / "r").unfinished
    assert unfinished == (UnfinishedChain("a", 1, 4, None, 2),)
    assert unfinished_lines(unfinished) == ("a, seed 1: finished up to generation 4, generation 2 missing",)


def test_learners_make_groups_in_the_order_of_their_first_arm(numbers):
    groups = read_lab_run(numbers).groups
    assert [group.learner for group in groups] == ["gaussian", "mixture"]
    assert groups[1].arms == ("mixture-ce", "mixture-accumulate")


def test_a_finished_generation_with_broken_metrics_is_one_clear_error(tmp_path):
    with new_run(tmp_path / "r", arms=["a"], seeds=(0,), generations=1) as run:
        cell = run.generation_dir("a", 0, 0)
        finish(cell, {"score": 1.0}, learner="custom")
        (cell.path / "metrics.json").write_text('{"metrics": [1]}')
    with pytest.raises(InputError, match=r"metrics\.json"):
        read_lab_run(tmp_path / "r")


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"run\.json"):
        read_lab_run(tmp_path)
