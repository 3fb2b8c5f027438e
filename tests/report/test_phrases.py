"""The configuration of an arm decides its colour and its half sentence."""

import pytest

from tailkeep import lab
from tailkeep.config import parse_yaml
from tailkeep.report.lab.run import arm_configs
from tailkeep.report.phrases import (
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


EXTERNAL = ["data.path=text", "data.prior.path=prior", "model.path=model"]


def configs_of(recipe, overrides=()):
    return arm_configs(parse_yaml(lab.dump(lab.load(recipe, overrides=overrides)), source=recipe))


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


PHRASES = {
    "gaussian": {
        "density-0.85": "the same, without values of density above 0.85",
        "relative-0.0125": "the same, without values within 0.0125 standard deviations of the mean",
    },
    "mixture-sweep": {"drop-0.5": "the same, without the 0.5 % most likely points"},
    "regression": {
        "truncated-20": "the same, without the 20 % labels nearest to the fit",
        "disjoint-10": "the same, 0.25 % of the labels are regenerated, the next ones each time",
        "decaying-0.5": (
            "the same, 12.5 % of the labels are regenerated, random ones each time, a share times 0.5 each time"
        ),
    },
    "vae": {
        "pixels-0.9-random": "the same, ignoring as many random pixels",
        "samples-10": "the same, ignoring the 10 % of images with the highest evidence bound",
    },
    "gan": {
        "generator-10": "the same, the generator's loss ignores the 10 % of highest discriminator confidence",
        "generator-10-random": "the same, the generator's loss ignores 10 % at random",
    },
    "noniterative": {"real-100": "cross-entropy, 100 % of the data stay real"},
    "selection": {
        "dsir": "the same, on samples selected by DSIR",
        "verifier-errs-20": "the same, on samples selected by a verifier (wrong in 20 % of its verdicts)",
    },
    "stopping": {"finetune-1-epoch": "the same, 1 epoch", "finetune-3-epochs": "the same, 3 epochs"},
    "threshold": {"greedy-automatic": "the same, ignoring tokens with p > an automatic threshold"},
    "ecosystem": {
        "families-part": (
            "cross-entropy on the previous generation's samples, 2 models (llama, neox) on a part of the pool each"
        )
    },
}


@pytest.mark.parametrize("recipe", PHRASES)
def test_the_phrase_of_an_arm_says_what_sets_it_apart(recipe):
    configs = configs_of(recipe)
    reference = configs[next(iter(configs))]
    for arm, phrase in PHRASES[recipe].items():
        assert phrase_of(configs[arm], reference).replace("\N{NO-BREAK SPACE}", " ") == phrase


@pytest.mark.parametrize("recipe", ["regression", "selection", "vae", "gan", "flow", "mixture-sweep", "ecosystem"])
def test_no_two_arms_have_the_same_phrase(recipe):
    configs = configs_of(recipe)
    phrases = [phrase_of(config, configs[next(iter(configs))]) for config in configs.values()]
    assert len(set(phrases)) == len(phrases)


def test_an_edit_by_an_external_model_is_a_phrase_and_its_control_a_control():
    configs = configs_of("editing-continual", EXTERNAL)
    phrases = {
        arm: phrase_of(config, configs["unedited"]).replace("\N{NO-BREAK SPACE}", " ")
        for arm, config in configs.items()
    }
    assert phrases["unedited"] == "cross-entropy on the real data"
    assert phrases["over-0.99"] == "the same, tokens with p ≥ 0.99 resampled by the prior"
    assert phrases["over-0.99-excluded-random"] == (
        "the same, as many random tokens resampled by the prior, never to the same one"
    )
    assert phrases["under-0.01"] == "the same, tokens with p < 0.01 resampled by the prior"
    assert phrases["synthetic"] == "the same, on text generated by the prior"
    assert role_of(configs["over-0.99"], configs["unedited"]) == EDITED
    assert role_of(configs["over-0.99-excluded-random"], configs["unedited"]) == CONTROL
