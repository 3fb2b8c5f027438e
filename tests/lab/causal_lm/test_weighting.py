import math

import pytest
import torch

from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.settings import CrossEntropy, Focal, Truncated, UserLoss
from tailkeep.lab.causal_lm.weighting import build_weighting

NLL = torch.tensor([0.0, -math.log(0.95), -math.log(0.5)])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (CrossEntropy(name="cross_entropy"), [1, 1, 1]),
        (Truncated(name="truncated", threshold=1), [1, 1, 1]),
        (Truncated(name="truncated", threshold=0.99), [0, 1, 1]),
        (Truncated(name="truncated", threshold=0.9), [0, 0, 1]),
        (Focal(name="focal", exponent=0), [1, 1, 1]),
        (Focal(name="focal", exponent=2), [0, 0.0025, 0.25]),
    ],
)
def test_each_loss_weighs_tokens_as_it_says(loss, expected):
    assert build_weighting(loss, {})(NLL).tolist() == pytest.approx(expected, abs=1e-6)


def test_the_focal_factor_is_detached_on_request():
    nll = NLL.clone().requires_grad_()
    assert build_weighting(Focal(name="focal"), {})(nll).requires_grad
    assert not build_weighting(Focal(name="focal", detach=True), {})(nll).requires_grad


def test_a_loss_of_the_callers_own_gets_its_options():
    loss = UserLoss(name="user", id="scaled", version="1", options={"by": 3.0})
    weighting = build_weighting(loss, {"scaled": lambda options: lambda nll: nll * options["by"]})
    assert weighting(NLL).tolist() == (NLL * 3).tolist()


def test_a_loss_that_was_not_handed_over_is_named():
    with pytest.raises(ConfigError, match=r"loss.id: 'mine' was not handed over. Call .*losses=\{'mine': ...\}"):
        build_weighting(UserLoss(name="user", id="mine", version="1"), {})
