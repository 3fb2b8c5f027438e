"""Edit rules as decisions on log-probabilities."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tailkeep.rules import Action, Band, Low, Random, ToEdit, apply_rule

PROBABILITIES = [0.5, 0.995, 0.99, 0.98, 1.0, 1e-4, 0.3, 0.0]
log_probs = arrays(np.float32, st.integers(1, 40), elements=st.floats(-30, 0, width=32) | st.just(np.float32("nan")))


def actions_of(rule, probabilities=PROBABILITIES):
    with np.errstate(divide="ignore"):
        values = np.log(np.array(probabilities)).astype(np.float32)
    return [Action(a).name[0] for a in apply_rule(values, rule)]


@pytest.mark.parametrize(
    ("rule", "actions"),
    [
        (ToEdit(), "KRRKRKKK"),
        (ToEdit(threshold=1), "KKKKRKKK"),
        (ToEdit(delete_below=0.001), "KRRKRDKD"),
        (Low(threshold=0.001), "KKKKKRKR"),
        (Low(threshold=0.4, action="delete"), "KKKKKDDD"),
        (Band(low=0.3, high=0.99), "RKKRKKRK"),
        (Band(low=0, high=0.3), "KKKKKRKR"),
        (Band(low=0.99, high=1), "KRRKRKKK"),
    ],
)
def test_a_rule_flags_what_its_formula_says(rule, actions):
    assert "".join(actions_of(rule)) == actions


@given(log_probs, st.floats(1e-6, 1))
def test_low_and_toedit_at_one_threshold_share_the_scored_tokens_out(values, threshold):
    high = apply_rule(values, ToEdit(threshold=threshold)) == Action.RESAMPLE
    low = apply_rule(values, Low(threshold=threshold)) == Action.RESAMPLE
    assert ((high ^ low) == ~np.isnan(values)).all()


@given(log_probs)
def test_bands_that_meet_flag_every_scored_token_once(values):
    bands = [Band(low=low, high=high) for low, high in [(0, 0.1), (0.1, 0.5), (0.5, 0.99), (0.99, 1)]]
    times = sum((apply_rule(values, band) == Action.RESAMPLE).astype(int) for band in bands)
    assert (times == ~np.isnan(values)).all()


@given(log_probs, st.sampled_from([ToEdit(threshold=1e-9), Low(threshold=1), Band(low=0, high=1), Random(share=1)]))
def test_tokens_without_a_score_are_never_touched(values, rule):
    actions = apply_rule(values, rule, uniforms=np.zeros(len(values)))
    assert (actions[np.isnan(values)] == Action.KEEP).all()


def test_the_decision_falls_in_float32_log_space():
    edge = np.float32(math.log(0.99))
    values = np.array([0, edge, np.nextafter(edge, np.float32(-1)), np.nextafter(edge, np.float32(0))], np.float32)
    assert apply_rule(values, ToEdit()).tolist() == [1, 1, 0, 1]


def test_random_flags_its_share_whatever_the_probability():
    uniforms = np.random.default_rng(0).random(100_000)
    values = np.linspace(-9, 0, 100_000, dtype=np.float32)
    flagged = apply_rule(values, Random(share=0.1), uniforms=uniforms) == Action.RESAMPLE
    # Four standard errors of a share of .1 in 50,000 draws.
    assert flagged[:50_000].mean() == pytest.approx(0.1, abs=0.0054)
    assert flagged[50_000:].mean() == pytest.approx(0.1, abs=0.0054)
    assert (flagged == (uniforms < 0.1)).all()


@pytest.mark.parametrize("rule", [ToEdit(), Low(), Band(low=0.1, high=0.2), Random(share=1)])
def test_no_tokens_have_no_actions(rule):
    assert apply_rule(np.zeros(0, np.float32), rule, uniforms=np.zeros(0)).shape == (0,)
