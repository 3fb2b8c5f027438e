"""Confidence on logit bins, perplexities of the first model, and points: seeds pooled, other shapes skipped."""

import math

from tailkeep.report.lab.distributions import plot_confidence, plot_density, plot_first_model, plot_points
from tailkeep.report.lab.run import read_lab_run
from tests.report.built_runs import group_with


def confidence(counts):
    return {"confidence": {"logit_edges": [-2, 0, math.log(99), 8], "real": [1, 1, 1], "common": counts}}


def test_the_share_above_the_limit_is_said_for_the_first_and_the_last_generation(tmp_path):
    group = group_with(tmp_path / "r", [confidence([10, 80, 10]), confidence([5, 15, 80])], seeds=2)
    figure = plot_confidence(group, ["a"], "x")
    assert ">p &gt; 0.99: 10 % → 80 %</text>" in figure.body
    assert figure.body.count('class="ghost"') == 1
    assert "33 %" in plot_confidence(group, ["a"], "x", held_out=True).finding


def test_the_first_models_perplexities_are_pooled_over_seeds_with_their_median(tmp_path):
    first, last = (
        {"first_model": {"edges": [1, 10, 100, 1000], "counts": counts}} for counts in ([0, 4, 0], [1, 1, 2])
    )
    figure = plot_first_model(group_with(tmp_path / "r", [first, last], seeds=2), ["a"], "x")
    # Half of the counts of the bin from 10 to 100; then half lie below 100.
    assert "a: 31.6 → 100" in figure.finding
    assert "2 seeds together" in figure.note


def test_without_that_table_there_is_no_such_figure(tmp_path):
    assert plot_first_model(group_with(tmp_path / "r", [confidence([10, 80, 10])]), ["a"], "x") is None


def test_confidence_on_equal_bins_of_an_earlier_version_is_skipped(tmp_path):
    old = {"confidence": {"edges": [0, 0.5, 1], "real": [1, 1], "common": [1, 1]}}
    group = group_with(tmp_path / "r", [old])
    assert plot_confidence(group, ["a"], "x") is None
    assert plot_density(group, ["a"], "x") is None
    assert plot_points(group, ["a"], "x") is None


def test_a_dead_mode_is_a_ring(numbers):
    group = next(group for group in read_lab_run(numbers).groups if group.learner == "mixture")
    figure = plot_points(group, ["mixture-ce"], "x")
    assert figure.body.count('class="ring"') > 5
    assert "1.00" not in figure.finding


def test_the_words_of_a_histogram_stand_where_its_bars_are_low(tmp_path):
    for name, counts, anchor in (("left", [80, 10, 10], ' text-anchor="end"'), ("right", [10, 10, 80], "")):
        group = group_with(tmp_path / name, [confidence(counts), confidence(counts)])
        assert f'class="axis over"{anchor}>p &gt; 0.99' in plot_confidence(group, ["a"], "x").body
