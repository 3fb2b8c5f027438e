import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.metrics import Interval
from tailkeep.report import formatting, summarise
from tailkeep.report.lab.sentences import paired_sentences, sentences
from tests.report.built_runs import finish, new_run


def sentences_of(path, table, metric="held_out_nll"):
    """The sentences about a run in which arm -> the last values of its seeds."""
    count = max(len(row) for row in table.values())
    with new_run(path, arms=table, seeds=tuple(range(count)), generations=2) as run:
        for arm, row in table.items():
            for seed, value in enumerate(row):
                for generation, at in enumerate((2.0, value)):
                    finish(run.generation_dir(arm, seed, generation), {metric: at}, learner="causal_lm")
    return sentences(summarise(path).groups[0])


def test_intervals_that_do_not_overlap_are_reported(tmp_path):
    first = sentences_of(tmp_path / "r", {"good": [2.00, 2.01, 2.02], "bad": [3.00, 3.01, 3.02]})[0]
    assert first.startswith("At generation 1, held-out NLL is lowest for good (2.010; 95\u00a0% CI ")
    assert first.endswith("over 3 seeds); its 95 % CI does not overlap that of bad.")


def test_no_order_is_claimed_where_intervals_overlap(tmp_path):
    first = sentences_of(tmp_path / "r", {"one": [2.0, 2.2, 2.4], "two": [2.1, 2.3, 2.5]})[0]
    assert "its 95 % CI overlaps that of two, so these are not ranked" in first
    assert "not overlap" not in first


def test_one_seed_makes_no_claim(tmp_path):
    first = sentences_of(tmp_path / "r", {"one": [2.0], "two": [2.9]})[0]
    assert first.endswith("one seed gives no CI, so the order may be chance.")


def test_the_highest_is_best_where_higher_is_better(tmp_path):
    first = sentences_of(tmp_path / "r", {"low": [0.5, 0.5], "high": [0.9, 0.9]}, metric="kr_accuracy")[0]
    assert "is highest for high" in first


def test_a_tie_names_every_arm_that_prints_the_best_mean(tmp_path):
    table = {"one": [2.0, 2.4], "bad": [8.0, 8.1], "two": [2.001, 2.401]}
    first = sentences_of(tmp_path / "r", table)[0]
    assert first == (
        "At generation 1, held-out NLL is lowest, and equal to the printed precision, for one and two (2.2); "
        "their 95 % CIs do not overlap that of bad."
    )


def test_arms_that_all_print_the_same_mean_are_not_ranked(tmp_path):
    first = sentences_of(tmp_path / "r", {"one": [0.5, 0.5], "two": [0.4, 0.6]}, metric="kr_accuracy")[0]
    assert first == "At generation 1, KR-test accuracy is equal to the printed precision for one and two (0.500)."


def test_a_tie_of_single_seeds_still_says_that_the_order_may_be_chance(tmp_path):
    first = sentences_of(tmp_path / "r", {"one": [2.0], "two": [2.0001], "bad": [2.9]})[0]
    assert "equal to the printed precision, for one and two (2.00), against 2.90 for bad; one seed" in first


def test_an_arm_without_a_finite_value_is_named_and_not_ranked(tmp_path):
    first = sentences_of(tmp_path / "r", {"a": [2.0, 2.1], "b": [3.0, 3.1], "lost": [math.nan, 2.0]})[0]
    assert first.endswith("lost has no finite value there.")


def test_failures_are_counted_in_seeds(tmp_path):
    last = sentences_of(tmp_path / "r", {"falls": [2.4, 2.4, 2.0], "holds": [2.0, 2.0, 2.0]})[-1]
    assert last == (
        "Held-out NLL rose 10 % above generation 0 in 2 of 3 seeds of falls (median time 0.5); in no seed of holds."
    )


def test_an_arm_that_starts_beyond_the_limit_is_said_to(tmp_path):
    with new_run(tmp_path / "r", arms=["low", "lower", "falls"], seeds=(0,), generations=2) as run:
        for arm, values in {"low": (0.6, 0.5), "lower": (0.5, 0.5), "falls": (0.85, 0.65)}.items():
            for generation, value in enumerate(values):
                finish(run.generation_dir(arm, 0, generation), {"kr_accuracy": value}, learner="causal_lm")
    *_, absolute, relative = sentences(summarise(tmp_path / "r").groups[0])
    assert "low (median time 0.5)" in relative
    assert relative.endswith("lower started beyond the limit, so there is no time to failure.")
    assert absolute.endswith(
        "of falls (median time 0.5); low and lower started beyond the limit, so there is no time to failure."
    )


def test_an_arm_without_a_value_at_generation_0_is_not_said_to_start_beyond_the_limit(tmp_path):
    with new_run(tmp_path / "r", arms=["a"], seeds=(0,), generations=2) as run:
        for generation, value in enumerate((math.nan, 0.5)):
            finish(run.generation_dir("a", 0, generation), {"kr_accuracy": value}, learner="causal_lm")
    absolute = sentences(summarise(tmp_path / "r").groups[0])[-2]
    assert absolute == (
        "KR-test accuracy < 0.75: a had no finite value at generation 0, so there is no time to failure."
    )


def test_arms_at_different_generations_are_compared_where_both_have_been(tmp_path):
    with new_run(tmp_path / "r", arms=["far", "near"], seeds=(0,), generations=3) as run:
        for generation in range(3):
            finish(run.generation_dir("far", 0, generation), {"held_out_nll": 2.0 + generation}, learner="causal_lm")
        finish(run.generation_dir("near", 0, 0), {"held_out_nll": 2.5}, learner="causal_lm")
    first = sentences(summarise(tmp_path / "r").groups[0])[0]
    assert first.startswith("At generation 0, the last that all arms share, held-out NLL is lowest for far (2.00)")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (2.184, "2.18"), (-0.0123, "−0.0123"), (31400.0, "31,400"), (math.nan, "–"), (math.inf, "∞")],
)
def test_a_number_has_three_significant_digits(value, text):
    assert formatting.number(value) == text


@given(st.floats(-1e6, 1e6), st.floats(1e-5, 1e5))
def test_the_bounds_of_an_interval_never_read_the_same(middle, half):
    low, high = formatting.interval(Interval(middle, middle - half, middle + half)).split(" to ")
    assert low != high


def test_the_mean_has_the_decimals_of_its_bounds():
    assert formatting.mean(Interval(2.18437, 2.1, 2.26874)) == "2.18"
    assert formatting.interval(Interval(2.18437, 2.1, 2.26874)) == "2.10 to 2.27"


def test_paired_differences_of_the_first_metric_have_their_intervals(tmp_path):
    values = {"baseline": (2.0, 2.1, 2.3), "near": (2.1, 2.2, 2.4), "mixed": (1.0, 2.1, 3.2)}
    with new_run(tmp_path / "r", arms=values, seeds=(0, 1, 2), generations=1) as run:
        for arm, levels in values.items():
            for seed, value in enumerate(levels):
                finish(run.generation_dir(arm, seed, 0), {"held_out_nll": value}, learner="causal_lm")
    (line,) = paired_sentences(summarise(tmp_path / "r").groups[0])
    assert line.startswith("Paired by seed, over 3 seeds at generation 0, held-out NLL minus that of baseline is ")
    assert "+0.100 for near" in line or "+0.1 for near" in line
    assert "for mixed (" in line


def test_one_arm_has_nothing_to_be_paired_with(tmp_path):
    with new_run(tmp_path / "r", arms=["baseline"], seeds=(0,), generations=1) as run:
        finish(run.generation_dir("baseline", 0, 0), {"held_out_nll": 2.0}, learner="causal_lm")
    assert paired_sentences(summarise(tmp_path / "r").groups[0]) == ()
