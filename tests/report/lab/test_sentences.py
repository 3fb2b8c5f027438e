import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.metrics import Interval
from tailkeep.report import formatting, summarise
from tailkeep.report.lab.sentences import paired_sentences
from tests.report.built_runs import finish, new_run


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


def test_a_mean_below_10_has_two_decimals_and_a_large_one_none():
    assert formatting.mean(Interval(1.404, 0.9, 1.9)) == "1.40"
    assert formatting.interval(Interval(14.3, 10.2, 18.4)) == "10.2 to 18.4"
    assert formatting.interval(Interval(1400.0, 900.0, 1900.0)) == "900 to 1,900"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1e-9, "< 1 %"), (0.005, "< 1 %"), (0.0051, "1 %"), (0.9949, "99 %"), (0.995, "> 99 %"), (1, "100 %")],
)
def test_a_share_is_0_or_100_per_cent_only_where_it_is(share, text):
    assert formatting.percent(share) == text


def test_a_small_p_value_is_below_0_001():
    assert [formatting.p_value(p) for p in (0.0004, 0.0123, 1.0)] == ["< 0.001", "0.012", "1.0"]


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
