import math

import pytest
import torch
from pydantic import TypeAdapter

from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.config import AnyLoss, UserLoss
from tailkeep.lab.causal_lm.training import build_weighting
from tailkeep.losses import CROSS_ENTROPY, LOSSES
from tailkeep.losses.options import CrossEntropy, Focal, MiLe, RandomTruncation, Truncated

NLL = torch.tensor([0.0, -math.log(0.95), -math.log(0.5)])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (CrossEntropy(), [1, 1, 1]),
        (Truncated(threshold=1), [1, 1, 1]),
        (Truncated(threshold=0.99), [0, 1, 1]),
        (Truncated(threshold=0.9), [0, 0, 1]),
        (Focal(exponent=0), [1, 1, 1]),
        (Focal(exponent=2), [0, 0.0025, 0.25]),
    ],
)
def test_each_loss_weighs_tokens_as_it_says(loss, expected):
    assert build_weighting(loss, {}).weigh(NLL, None).tolist() == pytest.approx(expected, abs=1e-6)


def test_the_focal_factor_is_detached_on_request():
    nll = NLL.clone().requires_grad_()
    assert build_weighting(Focal(), {}).weigh(nll, None).requires_grad
    assert not build_weighting(Focal(detach=True), {}).weigh(nll, None).requires_grad


def test_a_loss_of_the_callers_own_gets_its_options():
    loss = UserLoss(name="user", id="scaled", version="1", options={"by": 3.0})
    weighting = build_weighting(loss, {"scaled": lambda options: lambda nll: nll * options["by"]})
    assert weighting.weigh(NLL, None).tolist() == (NLL * 3).tolist()


def test_a_loss_that_was_not_handed_over_is_named():
    with pytest.raises(ConfigError, match=r"loss.id: 'mine' was not handed over. Call .*losses=\{'mine': ...\}"):
        build_weighting(UserLoss(name="user", id="mine", version="1"), {})


def test_every_loss_of_the_library_can_be_named_by_an_arm():
    named = {
        "cross_entropy": {}, "truncated": {}, "dynamic": {"alpha": 1.0}, "target_kept": {"fraction": 0.5},
        "scheduled": {"start": 1.0, "end": 0.9, "steps": 3}, "random": {"kept_fraction": 0.5}, "focal": {},
        "mile": {}, "eaft": {}, "dft": {}, "stm": {}, "random_matched": {},
    }  # fmt: skip
    assert set(named) == set(LOSSES)
    for name, options in named.items():
        loss = TypeAdapter(AnyLoss).validate_python({"name": name, **options})
        assert build_weighting(loss, {}).name == name


def test_a_loss_that_needs_the_entropy_says_so():
    assert build_weighting(MiLe(), {}).entropy == "full"


def test_random_truncation_follows_the_seed():
    loss = RandomTruncation(kept_fraction=0.5)
    nll = torch.ones(100)
    one, same, other = (build_weighting(loss, {}, seed=seed).weigh(nll, None) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_callers_loss_may_be_a_weighting_itself():
    loss = UserLoss(name="user", id="own", version="1")
    assert build_weighting(loss, {"own": lambda options: CROSS_ENTROPY}) is CROSS_ENTROPY
