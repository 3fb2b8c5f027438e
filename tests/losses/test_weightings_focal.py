import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.errors import ConfigError
from tailkeep.losses.cross_entropy import weighted_cross_entropy
from tailkeep.losses.weightings import focal, focal_cross_entropy, focal_weights
from tests.losses.reference import logits_of

EXPONENTS = [0.0, 0.5, 1.0, 2.0, 5.0]


@given(p=st.floats(1e-4, 0.999), exponent=st.floats(0, 5))
def test_the_loss_is_its_closed_form(p, exponent):
    logits = logits_of([p]).float()
    loss = focal_cross_entropy(logits, torch.tensor([0]), exponent=exponent)
    assert loss.item() == pytest.approx((1 - p) ** exponent * -math.log(p), rel=1e-3)


@given(p=st.floats(1e-3, 0.99), exponent=st.sampled_from(EXPONENTS), detach=st.booleans())
def test_the_gradient_flows_through_the_factor_unless_it_is_detached(p, exponent, detach):
    logits = logits_of([p]).float().requires_grad_()
    focal_cross_entropy(logits, torch.tensor([0]), exponent=exponent, detach=detach).backward()
    # d/dz of -ln p is p - 1, of (1 - p)^a is -a (1 - p)^(a - 1) p (1 - p)
    plain = (1 - p) ** exponent * (p - 1)
    factor = 0.0 if detach else exponent * (1 - p) ** exponent * p * math.log(p)
    assert logits.grad[0, 0].item() == pytest.approx(plain + factor, rel=1e-3, abs=1e-7)


def test_an_exponent_of_zero_is_plain_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(30, 5, generator=generator), torch.randint(0, 5, (30,), generator=generator)
    targets[:4] = -100
    logits[5] = torch.tensor([99.0, 0, 0, 0, 0])
    targets[5] = 0
    losses = focal_cross_entropy(logits, targets, exponent=0.0, reduction="none")
    assert torch.equal(losses, F.cross_entropy(logits, targets, reduction="none"))


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("detach", [False, True])
def test_a_certain_token_costs_nothing_and_has_a_finite_gradient(exponent, detach):
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    loss = focal_cross_entropy(logits, torch.tensor([0]), exponent=exponent, detach=detach)
    loss.backward()
    assert loss == 0
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_a_nearly_certain_token_does_not_cancel(exponent):
    # 1 - p = 1e-6 would keep one digit of float32's precision if it were computed as 1 - exp(-nll).
    nll = torch.tensor([1e-6], dtype=torch.float32)
    assert focal_weights(nll, exponent=exponent).item() == pytest.approx(1e-6**exponent, rel=1e-4)


def test_a_token_that_is_impossible_counts_in_full():
    assert focal_weights(torch.tensor([1e4]), exponent=2.0) == 1


def test_reductions_and_denominators_are_those_of_all_losses():
    logits, targets = logits_of([0.5, 0.5, 0.9]).float(), torch.tensor([0, -100, 0])
    one, other = 0.25 * math.log(2), 0.01 * -math.log(0.9)
    for choice, expected in [
        ({"reduction": "sum"}, one + other),
        ({}, (one + other) / 2),
        ({"num_items": 4}, (one + other) / 4),
    ]:
        assert focal_cross_entropy(logits, targets, **choice).item() == pytest.approx(expected, rel=1e-4)
    none = focal_cross_entropy(logits, targets, reduction="none")
    assert none.tolist() == pytest.approx([one, 0, other], rel=1e-4)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_kept"])
def test_nothing_to_learn_is_a_connected_zero(reduction):
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = focal_cross_entropy(logits, torch.full((2,), -100), reduction=reduction)
    loss.sum().backward()
    assert (loss == 0).all()
    assert torch.equal(logits.grad, torch.zeros(2, 3))


@pytest.mark.parametrize("exponent", [-1.0, -1e-9, float("nan"), float("inf")])
def test_an_exponent_without_meaning_is_refused(exponent):
    with pytest.raises(ConfigError, match=rf"exponent {exponent} is not in \[0, inf\)"):
        focal_weights(torch.ones(1), exponent=exponent)


@pytest.mark.parametrize("exponent", [-1.0, float("nan"), float("inf")])
def test_the_weighting_refuses_such_an_exponent_where_it_is_made(exponent):
    with pytest.raises(ConfigError, match=rf"exponent {exponent} is not in"):
        focal(exponent)


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("detach", [False, True])
def test_the_weighting_gives_the_loss_and_gradient_of_the_function(exponent, detach):
    generator = torch.Generator().manual_seed(1)
    logits, targets = torch.randn(20, 5, generator=generator), torch.randint(0, 5, (20,), generator=generator)
    targets[:3] = -100
    inputs, reference = (logits.clone().requires_grad_() for _ in range(2))
    loss = weighted_cross_entropy(inputs, targets, focal(exponent, detach))
    expected = focal_cross_entropy(reference, targets, exponent=exponent, detach=detach)
    loss.backward()
    expected.backward()
    assert torch.equal(loss, expected)
    assert torch.equal(inputs.grad, reference.grad)
