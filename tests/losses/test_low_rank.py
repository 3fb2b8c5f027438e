"""A product of low rank beside the output layer's: the loss and gradients of W + B A, by each engine, in float64."""

from dataclasses import replace

import pytest
import torch

from tailkeep.errors import ConfigError
from tailkeep.losses import LowRankProduct, linear_token_nll, linear_truncated_cross_entropy
from tests.losses.engines import truth
from tests.losses.engines.places import INTERPRETED, everywhere

HEADS = [{}, {"bias": True, "scale": -0.7, "softcap": 3.0}]
RANK = 2


def factors(seed=1, *, width=6, vocabulary=11):
    """(r, D) and (V, r) in float64."""
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(RANK, width, generator=generator, dtype=torch.float64)
    up = torch.randn(vocabulary, RANK, generator=generator, dtype=torch.float64)
    return down.requires_grad_(), up.requires_grad_()


def of_all_logits(problem, down, up, threshold, upstream):
    """Losses and gradients of hidden, weight, bias, A and B with W + B A in place of W."""
    whole = replace(problem, weight=problem.weight + up @ down)
    losses = truth.token_nll(whole) if threshold is None else truth.truncated(whole, threshold, reduction="none")
    return losses, torch.autograd.grad((losses * upstream).sum(), [*problem.inputs, down, up])


@everywhere("head", cases=[(head,) for head in HEADS])
@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("shape", [(4, 5)] if INTERPRETED else [(4, 5), (3, 430)])
def test_losses_and_gradients_are_those_of_the_summed_weight(impl, device, head, alike, shape):
    problem, (down, up) = truth.problem(1, shape=shape, **head), factors()
    whole = replace(problem, weight=(problem.weight + up @ down).detach())
    threshold = truth.middle(whole)
    upstream = torch.full(shape, 0.3, dtype=torch.float64) if alike else torch.rand(shape, dtype=torch.float64)
    leaves = problem.leaves(device=device)
    a, b = (tensor.detach().to(device).requires_grad_() for tensor in (down, up))
    low_rank = LowRankProduct(leaves.hidden @ a.T, b)
    inputs = (leaves.hidden, leaves.weight, leaves.targets)
    for limit in (threshold, None):
        true, exact = of_all_logits(problem, down, up, limit, upstream)
        if limit is None:
            losses = linear_token_nll(*inputs, **leaves.head, low_rank=low_rank, impl=impl)
        else:
            losses = linear_truncated_cross_entropy(
                *inputs, **leaves.head, low_rank=low_rank, threshold=limit, reduction="none", impl=impl
            )
        assert truth.distance(losses, true) < 1e-10
        found = torch.autograd.grad((losses * upstream.to(device)).sum(), [*leaves.inputs, a, b], retain_graph=True)
        assert max(map(truth.distance, found, exact)) < 1e-10


@everywhere()
def test_a_frozen_weight_costs_no_gradient(impl, device):
    problem, (down, up) = truth.problem(2), factors()
    leaves = problem.leaves(device=device)
    leaves.weight.requires_grad_(False)
    b = up.detach().to(device).requires_grad_()
    low_rank = LowRankProduct(leaves.hidden @ down.detach().to(device).T, b)
    loss = linear_truncated_cross_entropy(
        leaves.hidden, leaves.weight, leaves.targets, threshold=1.0, low_rank=low_rank, reduction="sum", impl=impl
    )
    loss.backward()
    _, exact = of_all_logits(problem, down, up, 1.0, torch.ones(40, dtype=torch.float64))
    assert leaves.weight.grad is None
    assert truth.distance(leaves.hidden.grad, exact[0]) < 1e-10
    assert truth.distance(b.grad, exact[-1]) < 1e-10


@everywhere()
def test_gradients_of_gradients_are_those_of_the_summed_weight(impl, device):
    problem, (down, up) = truth.problem(3, softcap=4.0), factors()
    leaves = problem.leaves(device=device)
    a, b = (tensor.detach().to(device).requires_grad_() for tensor in (down, up))

    def penalised(loss, inputs):
        grads = torch.autograd.grad(loss, inputs, create_graph=True)
        return torch.autograd.grad(loss + sum(grad.square().sum() for grad in grads), inputs)

    loss = linear_truncated_cross_entropy(
        leaves.hidden,
        leaves.weight,
        leaves.targets,
        softcap=4.0,
        threshold=1.0,
        reduction="sum",
        low_rank=LowRankProduct(leaves.hidden @ a.T, b),
        impl=impl,
    )
    whole = replace(problem, weight=problem.weight + up @ down)
    true = penalised(truth.token_nll(whole).sum(), [*problem.inputs, down, up])
    assert max(map(truth.distance, penalised(loss, [*leaves.inputs, a, b]), true)) < 1e-9


@everywhere("dtype", cases=[(torch.bfloat16,), (torch.float16,), (torch.float32,)])
def test_it_is_added_in_the_inputs_type(impl, device, dtype):
    exact, (down, up) = truth.problem(4, shape=(60,)), factors()
    low = (exact.hidden.detach() @ down.detach().T).to(dtype)
    rounded = [tensor.detach().to(dtype).double().requires_grad_() for tensor in (exact.hidden, exact.weight, low, up)]
    whole = replace(
        exact, hidden=torch.cat([rounded[0], rounded[2]], -1), weight=torch.cat([rounded[1], rounded[3]], -1)
    )
    leaves = [tensor.detach().to(device, dtype).requires_grad_() for tensor in rounded]
    loss = linear_truncated_cross_entropy(
        leaves[0],
        leaves[1],
        exact.targets.to(device),
        threshold=1.0,
        low_rank=LowRankProduct(leaves[2], leaves[3]),
        impl=impl,
    )
    true = truth.truncated(whole, 1.0)
    error = {torch.bfloat16: 2e-2, torch.float16: 2e-3, torch.float32: 1e-6}[dtype]
    assert truth.distance(loss, true) < error
    found = torch.autograd.grad(loss, leaves)
    assert max(map(truth.distance, found, torch.autograd.grad(true, rounded))) < 3 * error


@everywhere()
def test_rows_that_pad_the_vocabulary_have_no_part_in_it(impl, device):
    problem, (down, up) = truth.problem(5), factors()
    leaves = problem.leaves(device=device)
    padding = torch.full((3, 6), 50.0, dtype=torch.float64, device=device)
    b = torch.cat([up.detach().to(device), padding[:, :RANK]]).requires_grad_()
    nll = linear_token_nll(
        leaves.hidden,
        torch.cat([leaves.weight, padding]),
        leaves.targets,
        low_rank=LowRankProduct(leaves.hidden @ down.detach().to(device).T, b),
        valid_vocab_size=11,
        impl=impl,
    )
    true, exact = of_all_logits(problem, down, up, None, torch.ones(40, dtype=torch.float64))
    assert truth.distance(nll, true) < 1e-10
    nll.sum().backward()
    assert truth.distance(b.grad[:11], exact[-1]) < 1e-10
    assert not b.grad[11:].any()


@pytest.mark.parametrize(
    ("hidden", "weight", "message"),
    [
        (
            torch.zeros(4, 2),
            torch.zeros(5, 2),
            r"low_rank.weight \(5, 2\) does not fit weight \(11, 6\). Pass \(V, r\)",
        ),
        (torch.zeros(4, 3), torch.zeros(11, 2), r"low_rank.hidden \(4, 3\) does not fit hidden \(4, 6\)"),
        (torch.zeros(4, 2).double(), torch.zeros(11, 2), "Give one floating-point type to all"),
        ([[0.0] * 2] * 4, torch.zeros(11, 2), "low_rank.hidden is a list, not a torch.Tensor"),
    ],
)
def test_factors_that_do_not_fit_are_named(hidden, weight, message):
    with pytest.raises(ConfigError, match=message):
        linear_token_nll(
            torch.zeros(4, 6), torch.zeros(11, 6), torch.zeros(4).long(), low_rank=LowRankProduct(hidden, weight)
        )
