"""The strips of the tail and the confidence on logit bins: seeds pooled, tables of another shape skipped."""

import math

import pytest

from tailkeep.report.lab.curves import plot_failures
from tailkeep.report.lab.distributions import plot_confidence, plot_density, plot_first_model, plot_points
from tailkeep.report.lab.run import read_lab_run
from tailkeep.report.lab.samples import plot_tail, pooled_tails
from tailkeep.report.lab.stats import summarise_run
from tests.report.built_runs import finish, new_run


def group_of(path, tables, seeds=1, metrics=None):
    """A run of one arm in which generation -> its tables."""
    with new_run(path, arms=["a"], seeds=tuple(range(seeds)), generations=len(tables)) as run:
        for seed in range(seeds):
            for generation, table in enumerate(tables):
                cell = run.generation_dir("a", seed, generation)
                finish(cell, {"kr_accuracy": 0.9, **(metrics or {})}, learner="causal_lm", tables=table)
    return read_lab_run(path).groups[0]


def people(counts):
    return {"tail": {"kind": "people", "real": [9] * len(counts), "counts": counts}}


def test_seeds_are_pooled_and_those_named_are_counted(tmp_path):
    group = group_of(tmp_path / "r", [people([5, 3, 1]), people([6, 0, 0])], seeds=2)
    tails = pooled_tails(group, "a")
    assert (tails[0].counts, tails[1].counts) == ([10, 6, 2], [12, 0, 0])
    figure = plot_tail(group, ["a"], "x")
    assert "a: 3 of 3 to 1 of 3" in figure.finding
    assert figure.body.count('class="gone"') == 2
    assert figure.body.count('class="bar ') == 4


def test_what_is_alive_is_decided_seed_by_seed_as_the_metric_does(tmp_path):
    tails = [
        {"tail": {"kind": "modes", "real": [5, 5, 5], "counts": counts, "least": [1, 1, 1]}}
        for counts in ([5, 5, 0], [5, 0, 0], [5, 0, 5])
    ]
    with new_run(tmp_path / "r", arms=["a"], seeds=(0, 1, 2), generations=1) as run:
        for seed, table in enumerate(tails):
            finish(run.generation_dir("a", seed, 0), {"modes_alive": 1.0}, learner="mixture", tables=table)
    figure = plot_tail(read_lab_run(tmp_path / "r").groups[0], ["a"], "x")
    assert ">1.7 of 3</text>" in figure.body
    assert figure.body.count('class="bar pale ') == 2
    assert "in a seed, on average" in figure.note


def test_a_mode_below_its_least_count_is_pale_and_not_alive(tmp_path):
    tail = {"kind": "modes", "real": [50, 50], "counts": [40, 5], "least": [10, 10]}
    figure = plot_tail(group_of(tmp_path / "r", [{"tail": tail}]), ["a"], "x")
    assert ">1 of 2</text>" in figure.body
    assert figure.body.count('class="bar pale ') == 1


def test_words_are_shown_as_the_share_of_their_band(tmp_path):
    tail = {"kind": "words", "names": ["over_100", "1"], "real": [10, 90], "counts": [10, 15]}
    assert ">25 %</text>" in plot_tail(group_of(tmp_path / "r", [{"tail": tail}]), ["a"], "x").body


@pytest.mark.parametrize(
    "tail",
    [
        3,
        {"kind": "people"},
        {"kind": "<b>", "real": [1], "counts": [1]},
        {"kind": "people", "real": [1], "counts": ["1"]},
        {"kind": "people", "real": [1, 2], "counts": [1]},
        {"kind": "people", "real": [1], "counts": [math.inf]},
        {"kind": "people", "real": [1], "counts": [1], "least": "x"},
    ],
)
def test_a_tail_of_another_shape_is_skipped(tmp_path, tail):
    assert plot_tail(group_of(tmp_path / "r", [{"tail": tail}]), ["a"], "x") is None


def confidence(counts):
    return {"confidence": {"logit_edges": [-2, 0, math.log(99), 8], "real": [1, 1, 1], "common": counts}}


def test_the_share_above_the_limit_is_said_for_the_first_and_the_last_generation(tmp_path):
    group = group_of(tmp_path / "r", [confidence([10, 80, 10]), confidence([5, 15, 80])], seeds=2)
    figure = plot_confidence(group, ["a"], "x")
    assert ">p &gt; 0.99: 10 % → 80 %</text>" in figure.body
    assert figure.body.count('class="ghost"') == 1
    assert "33 %" in plot_confidence(group, ["a"], "x", held_out=True).finding


def test_the_first_models_perplexities_are_pooled_over_seeds_with_their_median(tmp_path):
    first, last = (
        {"first_model": {"edges": [1, 10, 100, 1000], "counts": counts}} for counts in ([0, 4, 0], [1, 1, 2])
    )
    figure = plot_first_model(group_of(tmp_path / "r", [first, last], seeds=2), ["a"], "x")
    # Half of the counts of the bin from 10 to 100; then half lie below 100.
    assert "a: 31.6 → 100" in figure.finding
    assert "2 seeds together" in figure.note


def test_without_that_table_there_is_no_such_figure(tmp_path):
    assert plot_first_model(group_of(tmp_path / "r", [confidence([10, 80, 10])]), ["a"], "x") is None


def test_confidence_on_equal_bins_of_an_earlier_version_is_skipped(tmp_path):
    old = {"confidence": {"edges": [0, 0.5, 1], "real": [1, 1], "common": [1, 1]}}
    group = group_of(tmp_path / "r", [old])
    assert plot_confidence(group, ["a"], "x") is None
    assert plot_density(group, ["a"], "x") is None
    assert plot_points(group, ["a"], "x") is None


def test_a_dead_mode_is_a_ring(numbers):
    group = next(group for group in read_lab_run(numbers).groups if group.learner == "mixture")
    figure = plot_points(group, ["mixture-ce"], "x")
    assert figure.body.count('class="ring"') > 5
    assert "1.00" not in figure.finding


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


def test_the_words_of_a_histogram_stand_where_its_bars_are_low(tmp_path):
    for name, counts, anchor in (("left", [80, 10, 10], ' text-anchor="end"'), ("right", [10, 10, 80], "")):
        group = group_of(tmp_path / name, [confidence(counts), confidence(counts)])
        assert f'class="axis over"{anchor}>p &gt; 0.99' in plot_confidence(group, ["a"], "x").body


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
