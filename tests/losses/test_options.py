"""The losses by name: one class says what the configuration, `named_weighting` and the function accept."""

import inspect
import json
import math
import pickle
import subprocess
import sys
from pkgutil import resolve_name

import pytest
import torch
from pydantic import ValidationError

import tailkeep.losses
from tailkeep.errors import ConfigError
from tailkeep.losses.options import LOSSES, named_weighting
from tailkeep.losses.weighting import CROSS_ENTROPY

OPTIONS = {
    "random": {"kept_fraction": 0.5, "seed": 1},
    "random_matched": {"threshold": 0.9, "seed": 1},
    "dynamic": {"alpha": 1.0},
    "scheduled": {"start": 1.0, "end": 0.9, "steps": 3},
    "target_kept": {"fraction": 0.5},
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_weighting_carries_the_name_that_it_is_asked_for_by(name):
    assert named_weighting(name, **OPTIONS.get(name, {})).name == name


@pytest.mark.parametrize("name", LOSSES)
def test_every_weighting_can_be_pickled(name):
    made = named_weighting(name, **OPTIONS.get(name, {}))
    copied = pickle.loads(pickle.dumps(made))
    nll, entropy = torch.linspace(0.01, 5, 20), torch.linspace(0.1, 3, 20)
    assert torch.equal(copied.weigh(nll, entropy), made.weigh(nll, entropy))


def test_options_reach_the_weighting():
    nll = -torch.tensor([0.6, 0.8]).log()
    assert named_weighting("truncated", threshold=0.7).weigh(nll, None).tolist() == [1, 0]
    assert named_weighting("focal", exponent=1).weigh(nll, None).tolist() == pytest.approx([0.4, 0.2])
    assert named_weighting("eaft", k=7).entropy == 7
    assert named_weighting("cross_entropy") is CROSS_ENTROPY


def test_two_weightings_share_no_state():
    one, other = (named_weighting("scheduled", **OPTIONS["scheduled"]) for _ in range(2))
    one.move_on(torch.ones(3))
    assert one.threshold != other.threshold


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("truncate", {}, r"the loss 'truncate' is unknown\. Did you mean 'truncated'\?"),
        ("zzz", {}, r"the loss 'zzz' is unknown\. Known: cross_entropy, truncated, focal,"),
        ("truncated", {"treshold": 0.9}, r"'truncated' has no option 'treshold'\. Did you mean 'threshold'\?"),
        ("cross_entropy", {"threshold": 0.9}, r"'cross_entropy' has no option 'threshold'\. Remove it\."),
        ("dft", {"threshold": 0.9}, r"'dft' has no option 'threshold'\. Remove it\."),
        ("random", {"seed": 3}, r"'random' needs kept_fraction, and was given \['seed'\]"),
        ("scheduled", {}, "'scheduled' needs start and end and steps, and was given nothing"),
        ("truncated", {"threshold": "0.9"}, "'truncated': threshold '0.9' is a str, not a number"),
        ("truncated", {"threshold": True}, "threshold True is a bool, not a number"),
        ("truncated", {"threshold": None}, "threshold None is a NoneType, not a number"),
        ("eaft", {"k": 2.5}, "k 2.5 is a float, not a whole number"),
        ("focal", {"detach": 1}, "detach 1 is a int. Give True or False"),
        ("truncated", {"threshold": 1.5}, r"the loss 'truncated': threshold 1.5 is not in \(0, 1\]"),
        ("random", {"kept_fraction": 0.5, "seed": None}, "seed None is a NoneType, not a whole number"),
        (["truncated"], {}, r"the loss \['truncated'\] is unknown"),
        ("mile", {"exponent": -1}, r"the loss 'mile': exponent -1 is not in \[0, inf\)"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_name_of_the_loss(name, options, message):
    with pytest.raises(ConfigError, match=message):
        named_weighting(name, **options)


def fields_of(kind):
    return {key: field for key, field in kind.model_fields.items() if key != "name"}


def accepts(build, **options):
    try:
        build(**options)
    except (ConfigError, ValidationError):
        return False
    return True


@pytest.mark.parametrize("kind", LOSSES.values())
def test_a_class_and_its_function_have_the_same_options_and_defaults(kind):
    parameters = inspect.signature(resolve_name(f"tailkeep.losses.{kind.function}")).parameters
    assert set(parameters) == {*fields_of(kind), *(["seed"] if kind.needs_seed else [])}
    for key, field in fields_of(kind).items():
        assert parameters[key].default in (inspect.Parameter.empty, field.default)


NUMBERS = [-math.inf, -1, -1e-9, 0, 1e-9, 0.5, 1, 1 + 1e-9, 2, 3, 20, math.inf, math.nan]


@pytest.mark.parametrize(
    ("name", "option", "number"),
    [
        (name, key, number)
        for name, kind in LOSSES.items()
        for key, field in fields_of(kind).items()
        for number in NUMBERS
        if field.annotation is not bool and (field.annotation is not int or isinstance(number, int))
    ],
)
def test_a_class_and_its_function_accept_the_same_numbers(name, option, number):
    options = {**OPTIONS.get(name, {}), option: number}
    seed = {"seed": options.pop("seed")} if "seed" in options else {}
    assert accepts(LOSSES[name], **options) == accepts(named_weighting, name=name, **options, **seed)


@pytest.mark.parametrize(("name", "kind"), LOSSES.items())
def test_a_class_says_whether_its_weighting_draws(name, kind):
    options = {key: value for key, value in OPTIONS.get(name, {}).items() if key != "seed"}
    one, same, other = (kind(**options).weighting(seed=seed) for seed in (1, 1, 2))
    nll, entropy = torch.linspace(0, 1, 200), torch.ones(200)
    for weighting in (one, same, other):
        weighting.move_on(nll)
    first, second, third = (weighting.weigh(nll, entropy) for weighting in (one, same, other))
    assert torch.equal(first, second)
    assert torch.equal(first, third) is not kind.needs_seed


def test_a_threshold_that_only_the_laboratory_sets_is_refused_elsewhere():
    assert LOSSES["truncated"](threshold="auto").threshold == "auto"
    with pytest.raises(ConfigError, match="threshold 'auto' is a str, not a number"):
        LOSSES["truncated"](threshold="auto").weighting()
    with pytest.raises(ConfigError, match="threshold 'auto' is a str, not a number"):
        named_weighting("truncated", threshold="auto")


def test_the_options_are_read_without_torch():
    code = "import json, sys, tailkeep.losses.options; print(json.dumps([*sys.modules]))"
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert {"tailkeep.losses", "pydantic"} <= set(json.loads(ended.stdout))
    assert {"torch", "transformers", "numpy"} & set(json.loads(ended.stdout)) == set()


def test_every_public_name_of_the_room_is_there_at_its_first_use():
    for name in tailkeep.losses.__all__:
        assert getattr(tailkeep.losses, name) is not None
    assert set(tailkeep.losses.__all__) <= set(dir(tailkeep.losses))
    assert set(tailkeep.losses._MODULE_OF) == set(tailkeep.losses.__all__)
    with pytest.raises(AttributeError, match=r"'tailkeep\.losses' has no attribute 'trunkated'"):
        tailkeep.losses.trunkated  # noqa: B018
