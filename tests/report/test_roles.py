"""The configuration of an arm decides its colour and its half sentence."""

import pytest

from tailkeep import lab
from tailkeep.config import parse_yaml
from tailkeep.report.lab.run import arm_configs
from tailkeep.report.roles import (
    BASELINE,
    CONTROL,
    EDITED,
    MOVES_LITTLE,
    OTHER,
    REAL_DATA,
    TRUNCATED,
    phrase_of,
    role_of,
    subject_of,
)

ROLES = {
    "demo": {"baseline": BASELINE, "truncated": TRUNCATED, "accumulate": REAL_DATA},
    "stopping": {"random": CONTROL, "finetune-1-epoch": MOVES_LITTLE, "truncated-0.9": TRUNCATED},
    "vae": {"pixels-0.9-random": CONTROL, "samples-10": TRUNCATED, "accumulate": REAL_DATA},
    "mixture": {"drop-5": TRUNCATED},
    "remedies": {"focal": OTHER, "edit": EDITED, "low-rate": MOVES_LITTLE, "dsir": OTHER, "half-real": REAL_DATA},
    "selection": {"random": CONTROL, "verifier": OTHER},
    "regression": {"replace": BASELINE, "anchored-27": EDITED},
}


def configs_of(recipe):
    return arm_configs(parse_yaml(lab.dump(lab.load(recipe)), source=recipe))


@pytest.mark.parametrize("recipe", ROLES)
def test_the_recipes_arms_have_their_roles(recipe):
    configs = configs_of(recipe)
    reference = configs[next(iter(configs))]
    for arm, role in ROLES[recipe].items():
        assert role_of(configs[arm], reference) == role, arm


def test_an_arm_is_explained_by_its_difference_from_the_reference():
    configs = configs_of("demo")
    phrases = {
        arm: phrase_of(config, configs["baseline"]).replace("\N{NO-BREAK SPACE}", " ")
        for arm, config in configs.items()
    }
    assert phrases["baseline"] == "cross-entropy on the previous generation's samples"
    assert phrases["truncated"] == "the same, ignoring tokens with p > 0.99"
    assert phrases["accumulate"] == "the same, the samples are added to the real data"
    assert phrases["gaussian-baseline"] == "trained on the previous generation's values"


def test_a_loss_of_the_users_own_is_named_with_its_options():
    base = {"learner": "causal_lm", "loss": {"name": "cross_entropy"}}
    code = {**base, "loss": {"name": "code", "code": "own:cap", "options": {"cap": 4.0, "floor": 0.2}}}
    assert phrase_of(code, base) == "the same, loss own:cap (cap 4.0, floor 0.2)"


def test_a_setting_without_a_phrase_of_its_own_is_named_by_its_key():
    base = {"learner": "causal_lm", "training": {"epochs": 2, "block": 8}, "regime": {"name": "replace"}}
    other = {**base, "training": {"epochs": 2, "block": 16}}
    assert phrase_of(other, base) == "the same, training.block = 16"
    assert role_of(other, base) == OTHER


def test_only_a_remedy_with_a_settled_name_is_a_subject():
    configs = configs_of("demo")
    assert subject_of(configs["accumulate"]) == "accumulating the real data"
    assert subject_of(configs["truncated"]) == "truncated cross-entropy"
    assert subject_of(configs["baseline"]) == ""
