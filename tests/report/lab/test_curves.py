"""Times to failure: those of arms without a limit are counted, those not reached are arrows."""

from tailkeep.report.lab.curves import plot_failures
from tailkeep.report.lab.run import read_lab_run
from tailkeep.report.lab.stats import summarise_run
from tests.report.built_runs import finish, new_run


def test_arms_without_a_limit_are_left_out_of_the_times_and_counted(tmp_path):
    with new_run(tmp_path / "r", arms=["none", "falls"], seeds=(0, 1), generations=2) as run:
        for seed in (0, 1):
            for generation, value in enumerate((0.9, 0.6)):
                finish(run.generation_dir("falls", seed, generation), {"kr_accuracy": value}, learner="causal_lm")
                finish(run.generation_dir("none", seed, generation), {"distinct_4": value}, learner="causal_lm")
    lab_run = read_lab_run(tmp_path / "r")
    figure = plot_failures(lab_run.groups[0], summarise_run(lab_run).groups[0], "x")
    assert ">falls</text>" in figure.body
    assert ">none</text>" not in figure.body
    assert "Left out: 1 of 2 arms" in figure.note


def test_a_time_that_was_not_reached_is_an_arrow_and_no_number(tmp_path):
    with new_run(tmp_path / "r", arms=["falls", "holds"], seeds=(0, 1), generations=3) as run:
        for arm, values in {"falls": (0.9, 0.7, 0.6), "holds": (0.9, 0.9, 0.9)}.items():
            for seed in (0, 1):
                for generation, value in enumerate(values):
                    finish(run.generation_dir(arm, seed, generation), {"kr_accuracy": value}, learner="causal_lm")
    lab_run = read_lab_run(tmp_path / "r")
    figure = plot_failures(lab_run.groups[0], summarise_run(lab_run).groups[0], "x")
    assert "falls, KR-test accuracy &lt; 0.75: 0.8" not in figure.finding
    assert "falls, KR-test accuracy < 0.75: 0.7" in figure.finding or "0.8" in figure.finding
    assert "holds, KR-test accuracy < 0.75: > 2" in figure.finding
    assert figure.body.count('class="arrow ') == 2
