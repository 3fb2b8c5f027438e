import pickle

import pytest
import torch

from tailkeep.errors import ConfigError
from tailkeep.losses.registry import WEIGHTINGS, named_weighting
from tailkeep.losses.weighting import CROSS_ENTROPY

OPTIONS = {
    "random": {"kept_fraction": 0.5, "seed": 1},
    "random_matched": {"threshold": 0.9, "seed": 1},
    "dynamic": {"alpha": 1.0},
    "scheduled": {"start": 1.0, "end": 0.9, "steps": 3},
    "target_kept": {"fraction": 0.5},
}


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weighting_carries_the_name_that_it_is_asked_for_by(name):
    assert named_weighting(name, **OPTIONS.get(name, {})).name == name


@pytest.mark.parametrize("name", WEIGHTINGS)
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
        ("truncated", {"threshold": "0.9"}, "threshold of '0.9', a str. Give a number"),
        ("truncated", {"threshold": True}, "threshold of True, a bool. Give a number"),
        ("truncated", {"threshold": None}, "threshold of None, a NoneType. Give a number"),
        ("eaft", {"k": 2.5}, "k of 2.5, a float. Give a whole number"),
        ("focal", {"detach": 1}, "detach of 1, a int. Give true or false"),
        ("truncated", {"threshold": 1.5}, r"the loss 'truncated': threshold 1.5 is not in \(0, 1\]"),
        ("mile", {"exponent": -1}, r"the loss 'mile': exponent -1 is not in \[0, inf\)"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_name_of_the_loss(name, options, message):
    with pytest.raises(ConfigError, match=message):
        named_weighting(name, **options)
