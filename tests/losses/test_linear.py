"""What losses from hidden states promise, by each engine wherever it runs. The truth is float64, from all logits."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tailkeep.losses.linear import linear_token_nll, linear_truncated_cross_entropy, linear_weighted_cross_entropy
from tailkeep.losses.weighting import Weighting
from tests.losses.engines import truth
from tests.losses.engines.places import INTERPRETED, everywhere

HEADS = [{}, {"bias": True}, {"scale": -0.7}, {"softcap": 3.0}, {"bias": True, "scale": 2.5, "softcap": 2.0}]
if INTERPRETED:
    HEADS = [HEADS[0], HEADS[-1]]  # a second apiece
EXACT = 1e-10


def with_heads(heads=HEADS):
    return everywhere("head", cases=[(head,) for head in heads])


def with_dtypes(*dtypes):
    return everywhere("dtype", cases=[(dtype,) for dtype in dtypes])


def nll_of(problem, impl, **options):
    return linear_token_nll(problem.hidden, problem.weight, problem.targets, **problem.head, impl=impl, **options)


def truncated_of(problem, impl, **options):
    return linear_truncated_cross_entropy(
        problem.hidden, problem.weight, problem.targets, **problem.head, impl=impl, **options
    )


def agree(leaves, expected, loss, true_loss, upstream=None, *, error=EXACT):
    """Value and every gradient."""
    assert loss.shape == true_loss.shape
    assert truth.distance(loss, true_loss) < error
    grads = truth.gradients(loss, leaves, None if upstream is None else upstream.to(loss))
    for grad, true in zip(grads, truth.gradients(true_loss, expected, upstream), strict=True):
        assert truth.distance(grad, true) < error


@with_heads()
@pytest.mark.parametrize("vocabulary", [1, 2, 11, 300])
def test_token_losses_and_gradients_are_those_of_all_logits(impl, device, head, vocabulary):
    expected = truth.problem(vocabulary, vocabulary=vocabulary, **head)
    leaves = expected.leaves(device=device)
    upstream = torch.randn(expected.targets.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    upstream[::5] = 0
    agree(leaves, expected, nll_of(leaves, impl), truth.token_nll(expected), upstream)


@with_heads()
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_kept"])
def test_truncated_losses_and_gradients_are_those_of_all_logits(impl, device, head, reduction):
    expected = truth.problem(3, shape=(5, 8), **head)
    leaves, threshold = expected.leaves(device=device), truth.middle(expected)
    loss = truncated_of(leaves, impl, threshold=threshold, reduction=reduction)
    true_loss = truth.truncated(expected, threshold, reduction=reduction)
    # Every token's gradient is wanted alike, then not.
    agree(leaves, expected, loss, true_loss, torch.full_like(true_loss, 0.3))
    loss = truncated_of(leaves, impl, threshold=threshold, reduction=reduction)
    true_loss = truth.truncated(expected, threshold, reduction=reduction)
    agree(leaves, expected, loss, true_loss, torch.rand_like(true_loss))


@everywhere()
@pytest.mark.parametrize("num_items", [7, 7.5, 0, torch.tensor(50), torch.tensor([[50]]), np.int64(50), np.array([50])])
def test_a_mean_over_given_items_divides_by_them(impl, device, num_items):
    expected = truth.problem(4)
    leaves, threshold = expected.leaves(device=device), truth.middle(expected)
    loss = truncated_of(leaves, impl, threshold=threshold, num_items=num_items)
    agree(
        leaves,
        expected,
        loss,
        truth.truncated(expected, threshold, reduction="sum") / (np.asarray(num_items).item() or 1),
    )


@everywhere()
def test_more_tokens_than_a_chunk_holds_are_all_counted(impl, device):
    tokens = 4 if INTERPRETED else 430  # its own tests have smaller chunks
    expected = truth.problem(5, shape=(3, tokens), width=3, vocabulary=7)
    leaves = expected.leaves(device=device)
    for threshold in (truth.middle(expected), 0.95, 1.0):
        loss = truncated_of(leaves, impl, threshold=threshold)
        agree(leaves, expected, loss, truth.truncated(expected, threshold))
    upstream = torch.rand(3, tokens, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    agree(leaves, expected, nll_of(leaves, impl), truth.token_nll(expected), upstream)


@with_dtypes(torch.float32, torch.float64)
def test_a_threshold_of_one_is_plain_cross_entropy(impl, device, dtype):
    problem = truth.problem(6, bias=True).leaves(dtype, device)
    loss = truncated_of(problem, impl, threshold=1.0)
    logits = F.linear(problem.hidden, problem.weight, problem.bias)
    plain = F.cross_entropy(logits, problem.targets)
    assert torch.allclose(loss, plain, rtol=4 * torch.finfo(dtype).eps)
    for grad, expected_grad in zip(truth.gradients(loss, problem), truth.gradients(plain, problem), strict=True):
        assert torch.allclose(grad, expected_grad, atol=8 * torch.finfo(dtype).eps)


@everywhere()
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 3), (0,), (2, 0)])
def test_any_number_of_leading_axes_is_kept(impl, device, shape):
    expected = truth.problem(7, shape=shape, bias=True, ignored=0)
    leaves = expected.leaves(device=device)
    upstream = torch.ones(shape, dtype=torch.float64)
    agree(leaves, expected, nll_of(leaves, impl), truth.token_nll(expected), upstream)
    loss = truncated_of(leaves, impl, threshold=0.9, reduction="none")
    assert loss.shape == shape
    agree(leaves, expected, truncated_of(leaves, impl, threshold=0.5), truth.truncated(expected, 0.5))


@everywhere()
def test_inputs_need_not_be_contiguous(impl, device):
    dense = truth.problem(8, shape=(6, 5), width=4, vocabulary=9, bias=True, ignored=0)
    hidden = dense.hidden.detach().permute(2, 0, 1).contiguous().permute(1, 2, 0).requires_grad_()
    weight = dense.weight.detach().T.contiguous().T.requires_grad_()
    problem = replace(dense, hidden=hidden, weight=weight, targets=dense.targets.T.contiguous().T).leaves(device=device)
    problem = replace(
        problem, bias=torch.stack([problem.bias.detach(), -problem.bias.detach()], 1)[:, 0].requires_grad_()
    )
    assert not any(tensor.is_contiguous() for tensor in (*problem.inputs, problem.targets))
    agree(problem, dense, truncated_of(problem, impl, threshold=0.6), truth.truncated(dense, 0.6))
    agree(problem, dense, nll_of(problem, impl).sum(), truth.token_nll(dense).sum())
    every_other = torch.stack([dense.targets.flatten(), torch.zeros(30, dtype=torch.long)], 1)[:, 0]
    flat = replace(dense, hidden=dense.hidden.reshape(-1, 4), targets=dense.targets.flatten())
    loss = linear_token_nll(
        problem.hidden.reshape(-1, 4), problem.weight, every_other.to(device), bias=problem.bias, impl=impl
    )
    assert truth.distance(loss, truth.token_nll(flat)) < EXACT


@everywhere()
@pytest.mark.parametrize("bias", [False, True])
def test_rows_that_pad_the_vocabulary_count_for_nothing(impl, device, bias):
    expected = truth.problem(9, bias=bias)
    leaves = expected.leaves(device=device)
    padding = torch.full((3, leaves.weight.shape[1]), 50.0, dtype=torch.float64, device=device)
    padded = replace(
        leaves,
        weight=torch.cat([leaves.weight, padding]),
        bias=None if leaves.bias is None else torch.cat([leaves.bias, padding[:, 0]]),
    )
    size = len(expected.weight)
    loss = truncated_of(padded, impl, threshold=0.7, valid_vocab_size=size)
    agree(leaves, expected, loss, truth.truncated(expected, 0.7))
    assert truth.distance(nll_of(padded, impl, valid_vocab_size=size), truth.token_nll(expected)) < EXACT
    assert truth.distance(nll_of(padded, impl), truth.token_nll(expected)) > 1


@everywhere()
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_kept"])
@pytest.mark.parametrize("why", ["ignored", "truncated", "empty"])
def test_nothing_to_learn_is_a_connected_zero(impl, device, reduction, why):
    problem = truth.problem(10, shape=(0,) if why == "empty" else (6,), bias=True, ignored=0).leaves(device=device)
    if why == "ignored":
        problem = replace(problem, targets=torch.full_like(problem.targets, -100))
    loss, stats = truncated_of(problem, impl, threshold=1e-9, reduction=reduction, return_stats=True)
    assert (loss == 0).all()
    grads = truth.gradients(loss.sum(), problem)
    assert len(grads) == 3
    assert all((grad == 0).all() for grad in grads)
    assert stats.targets == (6 if why == "truncated" else 0)
    assert math.isnan(stats.cross_entropy) == (why != "truncated")


@everywhere()
def test_an_infinite_loss_without_weight_moves_nothing(impl, device):
    problem = truth.problem(11, bias=True, ignored=0).leaves(device=device)
    with torch.no_grad():
        problem.bias[4] = -torch.inf  # a token that can never be
    targets = problem.targets.where(problem.targets != 4, 5)
    targets[0] = 4
    problem = replace(problem, targets=targets)
    assert nll_of(problem, impl)[0] == torch.inf
    likely = Weighting("likely", lambda nll, _: nll < 1e3)
    loss = linear_weighted_cross_entropy(problem.hidden, problem.weight, targets, likely, **problem.head, impl=impl)
    truncated = linear_weighted_cross_entropy(
        problem.hidden[1:], problem.weight, targets[1:], likely, **problem.head, impl=impl, num_items=len(targets)
    )
    assert truth.finite(loss)
    assert truth.distance(loss, truncated.cpu()) < EXACT
    assert all(truth.finite(grad) for grad in truth.gradients(loss, problem))


@with_heads(HEADS[-2:])
def test_a_capped_target_far_below_the_highest_logit_still_learns(impl, device, head):
    expected = truth.problem(12, ignored=0, spread=60.0, **{**head, "softcap": 400.0, "scale": 1.0})
    assert truth.token_nll(expected).max() > 120  # exp(-120) is 0 in float32
    leaves = expected.leaves(torch.float32, device)
    upstream = torch.ones(40, dtype=torch.float64)
    agree(leaves, expected, nll_of(leaves, impl), truth.token_nll(expected), upstream, error=1e-4)


@everywhere()
def test_a_model_that_broke_shows(impl, device):
    problem = truth.problem(13, ignored=0).leaves(device=device)
    with torch.no_grad():
        problem.hidden[2, 0] = torch.nan
    losses = truncated_of(problem, impl, threshold=0.5, reduction="none")
    assert losses.isnan().nonzero().flatten().tolist() == [2]
    assert truncated_of(problem, impl, threshold=0.5).isnan()


@everywhere()
def test_a_graph_that_is_retained_gives_the_same_gradients_again(impl, device):
    problem = truth.problem(14, bias=True).leaves(device=device)
    for factor in (1, 3):
        loss = truncated_of(problem, impl, threshold=0.5) * factor
        first = [grad.clone() for grad in torch.autograd.grad(loss, problem.inputs, retain_graph=True)]
        for times in (1, 2, 3):
            loss.backward(retain_graph=True)  # adds to .grad in place
            for grad, once in zip((tensor.grad for tensor in problem.inputs), first, strict=True):
                assert torch.allclose(grad, times * once, rtol=1e-12)
        for tensor in problem.inputs:
            tensor.grad = None


@everywhere()
@pytest.mark.parametrize("frozen", [("hidden",), ("weight",), ("bias",), ("weight", "bias"), ("hidden", "bias")])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(impl, device, frozen):
    expected = truth.problem(16, bias=True)
    for name in frozen:
        getattr(expected, name).requires_grad_(False)
    leaves = expected.leaves(device=device)
    agree(leaves, expected, truncated_of(leaves, impl, threshold=0.6), truth.truncated(expected, 0.6))
    agree(leaves, expected, nll_of(leaves, impl).sum(), truth.token_nll(expected).sum())


@everywhere()
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_losses_are_the_same(impl, device, mode):
    problem = truth.problem(17, bias=True).leaves(device=device)
    with mode():
        loss, stats = truncated_of(problem, impl, threshold=0.6, return_stats=True)
        nll = nll_of(problem, impl)
    assert not loss.requires_grad
    assert truth.distance(loss, truth.truncated(truth.problem(17, bias=True), 0.6)) < EXACT
    assert truth.distance(nll, truth.token_nll(truth.problem(17, bias=True))) < EXACT
    assert 0 < stats.kept_fraction < 1


@everywhere()
def test_autocast_multiplies_what_a_linear_layer_would(impl, device):
    problem = truth.problem(18, bias=True, width=16).leaves(torch.float32, device)
    half = problem.leaves(torch.bfloat16)
    with torch.autocast(device, torch.bfloat16):
        loss = truncated_of(problem, impl, threshold=0.9)
        grads = truth.gradients(loss, problem)
    plain = truncated_of(half, impl, threshold=0.9)
    assert loss == plain
    assert all(grad.dtype == torch.float32 for grad in grads)
    for grad, other in zip(grads, truth.gradients(plain, half), strict=True):
        assert torch.equal(grad, other.float())


@with_dtypes(torch.bfloat16, torch.float16, torch.float32)
def test_losses_are_float32_and_gradients_of_the_inputs_type(impl, device, dtype):
    problem = truth.problem(19, bias=True).leaves(dtype, device)
    loss, stats = truncated_of(problem, impl, threshold=0.9, return_stats=True)
    assert loss.dtype == torch.float32
    assert nll_of(problem, impl).dtype == torch.float32
    assert stats.cross_entropy.dtype == torch.float32
    assert all(grad.dtype == dtype for grad in truth.gradients(loss, problem))


@with_heads([{}, {"bias": True, "scale": 0.5, "softcap": 2.0}])
def test_gradients_are_those_of_finite_differences(impl, device, head):
    problem = truth.problem(20, shape=(4,), width=3, vocabulary=5, **head).leaves(device=device)

    def losses(*inputs):
        bias = inputs[2] if problem.bias is not None else None
        return nll_of(replace(problem, hidden=inputs[0], weight=inputs[1], bias=bias), impl)

    assert torch.autograd.gradcheck(losses, problem.inputs)


@with_heads()
def test_stats_are_those_of_all_logits(impl, device, head):
    expected = truth.problem(21, shape=(4, 25), **head)
    valid, logits, nll = expected.targets != -100, truth.logits_of(expected), truth.token_nll(expected)
    _, stats = truncated_of(expected.leaves(device=device), impl, threshold=0.4, return_stats=True)
    p = torch.exp(-nll[valid])
    assert stats.targets == valid.sum()
    assert stats.kept_fraction.item() == pytest.approx((p <= 0.4).double().mean().item())
    assert stats.cross_entropy.item() == pytest.approx(nll[valid].mean().item())
    assert stats.confidence.item() == pytest.approx(p.mean().item())
    assert stats.accuracy.item() == pytest.approx((logits.argmax(-1) == expected.targets)[valid].double().mean().item())
    assert not any(value.requires_grad for value in vars(stats).values())


@with_dtypes(torch.bfloat16, torch.float32)
def test_accuracy_is_that_of_argmax_where_logits_tie(impl, device, dtype):
    hidden, weight = torch.ones(6, 4, dtype=dtype, device=device), torch.ones(9, 4, dtype=dtype, device=device)
    weight[:2] = 0.5  # the third of nine is the first of seven largest
    targets = torch.tensor([0, 2, 3, 8, 2, 1], device=device)
    stats = linear_truncated_cross_entropy(hidden, weight, targets, impl=impl, return_stats=True)[1]
    assert stats.accuracy.item() == pytest.approx(2 / 6)


@everywhere("head", cases=[(head,) for head in HEADS])
@pytest.mark.parametrize("largest", [None, 1, 3, 40])
def test_entropies_are_those_of_all_logits(impl, device, head, largest):
    expected = truth.problem(22, shape=(3, 20), **head)
    leaves = expected.leaves(device=device)
    nll, entropy = nll_of(leaves, impl, return_entropy="full" if largest is None else largest)
    assert not entropy.requires_grad
    assert truth.distance(entropy, truth.entropy(expected, largest)) < 1e-9
    agree(leaves, expected, nll.sum(), truth.token_nll(expected).sum())


@everywhere()
def test_a_gradient_passes_through_a_weight_that_has_one(impl, device):
    expected = truth.problem(23, bias=True)
    leaves = expected.leaves(device=device)
    doubt = Weighting("doubt", lambda nll, _: (1 - torch.exp(-nll)) ** 2)
    loss = linear_weighted_cross_entropy(
        leaves.hidden, leaves.weight, leaves.targets, doubt, bias=leaves.bias, impl=impl
    )
    nll = truth.token_nll(expected)
    true_loss = ((1 - torch.exp(-nll)) ** 2 * nll).sum() / (expected.targets != -100).sum()
    agree(leaves, expected, loss, true_loss)


@everywhere()
def test_a_weight_from_entropy_is_constant_to_the_gradient(impl, device):
    expected = truth.problem(24)
    leaves = expected.leaves(device=device)
    unsure = Weighting("unsure", lambda _, entropy: entropy, entropy=2)
    loss = linear_weighted_cross_entropy(
        leaves.hidden, leaves.weight, leaves.targets, unsure, impl=impl, reduction="sum"
    )
    agree(leaves, expected, loss, (truth.entropy(expected, 2) * truth.token_nll(expected)).sum())


@everywhere()
@given(data=st.data())
@settings(max_examples=15 if INTERPRETED else 60)
def test_any_problem_has_the_losses_and_gradients_of_all_logits(impl, device, data):
    softcap = data.draw(st.none() | st.floats(0.5, 50))
    expected = truth.problem(
        data.draw(st.integers(0, 10_000)),
        shape=tuple(data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=2))),
        width=data.draw(st.integers(1, 9)),
        vocabulary=data.draw(st.integers(1, 70)),
        bias=data.draw(st.booleans()),
        ignored=data.draw(st.sampled_from([0, 0.5, 1])),
        spread=data.draw(st.floats(0.1, 5)),
        scale=data.draw(st.floats(-2, 2).filter(lambda scale: abs(scale) > 0.05)),
        softcap=softcap,
    )
    threshold = data.draw(st.floats(0.05, 1))
    reduction = data.draw(st.sampled_from(["none", "sum", "mean", "mean_kept"]))
    p = torch.exp(-truth.token_nll(expected))
    assume(threshold == 1 or not len(p.flatten()) or (p - threshold).abs().min() > 1e-9)
    leaves = expected.leaves(device=device)
    loss = truncated_of(leaves, impl, threshold=threshold, reduction=reduction)
    true_loss = truth.truncated(expected, threshold, reduction=reduction)
    agree(leaves, expected, loss, true_loss, torch.rand_like(true_loss), error=1e-8)
