"""The strips of the tail: seeds pooled, tables of another shape skipped."""

import math

import pytest

from tailkeep.report.lab.run import read_lab_run
from tailkeep.report.lab.samples import plot_tail, pooled_tails
from tests.report.built_runs import finish, group_with, new_run


def people(counts):
    return {"tail": {"kind": "people", "real": [9] * len(counts), "counts": counts}}


def test_seeds_are_pooled_and_those_named_are_counted(tmp_path):
    group = group_with(tmp_path / "r", [people([5, 3, 1]), people([6, 0, 0])], seeds=2)
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
    figure = plot_tail(group_with(tmp_path / "r", [{"tail": tail}]), ["a"], "x")
    assert ">1 of 2</text>" in figure.body
    assert figure.body.count('class="bar pale ') == 1


def test_words_are_shown_as_the_share_of_their_band(tmp_path):
    tail = {"kind": "words", "names": ["over_100", "1"], "real": [10, 90], "counts": [10, 15]}
    assert ">25 %</text>" in plot_tail(group_with(tmp_path / "r", [{"tail": tail}]), ["a"], "x").body


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
    assert plot_tail(group_with(tmp_path / "r", [{"tail": tail}]), ["a"], "x") is None
