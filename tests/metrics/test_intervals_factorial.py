from itertools import product

import numpy as np
import pytest

from tailkeep.metrics import factorial_effects, mean_interval

FACTORS = {"decoder": ["baseline", "matched", "cut"], "loss": ["baseline", "truncated"], "edit": ["no", "yes"]}


def outcomes_of(function, seeds=3):
    return {cell: [function(*cell, seed) for seed in range(seeds)] for cell in product(*FACTORS.values())}


def effects_by_levels(effects):
    return {tuple(effect.levels.items()): effect.interval for effect in effects}


def test_what_adds_up_has_its_main_effects_and_no_interaction():
    worth = {"baseline": 0.0, "matched": 1.0, "cut": -2.0, "truncated": 0.5, "no": 0.0, "yes": 4.0}
    effects = effects_by_levels(
        factorial_effects(FACTORS, outcomes_of(lambda *cell: 7 * cell[-1] + sum(worth[level] for level in cell[:-1])))
    )
    assert len(effects) == (2 + 1 + 1) + (2 + 2 + 1)
    for levels, interval in effects.items():
        expected = worth[levels[0][1]] if len(levels) == 1 else 0.0
        # Seeds shift everything alike, so nothing is left of them.
        assert interval == pytest.approx((expected, expected, expected))


def test_two_remedies_that_do_the_same_work_cancel_in_their_interaction():
    def either(decoder, loss, edit, seed):
        return float(decoder == "matched" or loss == "truncated")

    effects = effects_by_levels(factorial_effects(FACTORS, outcomes_of(either)))
    assert effects[("decoder", "matched"),].mean == pytest.approx(0.5)
    assert effects[("decoder", "matched"), ("loss", "truncated")].mean == pytest.approx(-1)
    assert effects[("decoder", "cut"), ("loss", "truncated")].mean == pytest.approx(0)
    assert effects[("decoder", "matched"), ("edit", "yes")].mean == pytest.approx(0)


def test_the_intervals_are_over_seeds_of_what_each_seed_shows():
    rng = np.random.default_rng(0)
    outcomes = {cell: rng.normal(size=4) for cell in product(*FACTORS.values())}
    effects = effects_by_levels(factorial_effects(FACTORS, outcomes, level=0.9))
    others = product(FACTORS["loss"], FACTORS["edit"])
    of_seeds = np.mean([outcomes["cut", *rest] - outcomes["baseline", *rest] for rest in others], axis=0)
    assert effects[("decoder", "cut"),] == pytest.approx(mean_interval(of_seeds, level=0.9))


@pytest.mark.parametrize(
    ("factors", "outcomes", "message"),
    [
        ({"a": ["x"]}, {("x",): [1.0]}, "the factor 'a' has fewer than two levels"),
        ({"a": ["x", "y"]}, {("x",): [1.0]}, "the combination y is missing"),
        ({"a": ["x", "y"]}, {("x",): [1.0], ("y",): [1.0, 2.0]}, "different numbers of seeds"),
    ],
)
def test_what_is_not_crossed_completely_is_an_error(factors, outcomes, message):
    with pytest.raises(ValueError, match=message):
        factorial_effects(factors, outcomes)
