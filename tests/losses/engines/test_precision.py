"""No engine is worse than eager PyTorch at the same precision; the truth is float64 on the same rounded inputs."""

import pytest
import torch
import torch.nn.functional as F

from tailkeep.losses.linear import linear_token_nll, linear_truncated_cross_entropy
from tests.losses.engines import truth
from tests.losses.engines.places import INTERPRETED, everywhere

# So many that one chunk holds them, and more than one holds; the interpreter takes about a millisecond for each.
SEEDS, TOKENS = (range(2), [40]) if INTERPRETED else (range(4), [500, 1100])
# In float32 both are at the last bit, where the order of a sum decides.
ALLOWED = {torch.float32: 2.0, torch.float16: 1.25, torch.bfloat16: 1.25}
if INTERPRETED:
    # Triton's interpreter cuts float32 off where a GPU rounds it to bfloat16, which doubles that error.
    ALLOWED[torch.bfloat16] *= 2

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
with_dtypes = everywhere("dtype", cases=[(dtype,) for dtype in DTYPES])


def losses_of(problem, exact, threshold, impl):
    """Mean loss of kept tokens: (eager, single pass, single pass to which its upstream is news, with recomputation)."""
    kept_mask = (torch.exp(-truth.token_nll(exact)) <= threshold) & (exact.targets != -100)
    count = (exact.targets != -100).sum()
    eager = F.cross_entropy(F.linear(problem.hidden, problem.weight, problem.bias), problem.targets, reduction="none")
    fused = linear_truncated_cross_entropy(
        problem.hidden, problem.weight, problem.targets, bias=problem.bias, threshold=threshold, impl=impl
    )
    nll = linear_token_nll(problem.hidden, problem.weight, problem.targets, bias=problem.bias, impl=impl)
    total = linear_truncated_cross_entropy(
        problem.hidden,
        problem.weight,
        problem.targets,
        bias=problem.bias,
        threshold=threshold,
        reduction="sum",
        impl=impl,
    )
    return (eager * kept_mask).sum() / count, fused, total / count, (nll * kept_mask).sum() / count


def relative(value, expected):
    error = (value.detach().cpu().double() - expected.detach().cpu()).square().mean()
    return error / expected.detach().cpu().square().mean()


@with_dtypes
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kept_tokens", ["all", "half"])
@pytest.mark.parametrize("tokens", TOKENS)
def test_loss_and_gradients_are_no_worse_than_eager(impl, device, dtype, bias, kept_tokens, tokens):
    errors = []
    for seed in SEEDS:
        problem = truth.problem(seed, shape=(tokens,), width=64, vocabulary=97, bias=bias, spread=0.3)
        problem = problem.leaves(dtype, device)
        exact = problem.leaves(torch.float64)
        threshold = 1.0 if kept_tokens == "all" else truth.middle(exact.leaves(device="cpu"))
        true = truth.truncated(exact, threshold)
        expected = (true, *truth.gradients(true, exact))
        errors.append(
            [
                [
                    relative(value, other)
                    for value, other in zip((loss, *truth.gradients(loss, problem)), expected, strict=True)
                ]
                for loss in losses_of(problem, exact, threshold, impl)
            ]
        )
    eager, *fused = torch.tensor(errors).mean(0).sqrt()
    for value in fused:
        # One unit in the last place of float32 is what no order of summation can promise.
        assert (value <= ALLOWED[dtype] * eager + torch.finfo(torch.float32).eps).all(), (value / eager).tolist()


@everywhere()
@pytest.mark.parametrize("autocast", [False, True])
def test_a_sum_too_large_for_float16_has_a_finite_mean(impl, device, autocast):
    problem = truth.problem(1, shape=(200,), width=8, vocabulary=5, ignored=0, spread=0.1)
    with torch.no_grad():
        problem.hidden[:, 0] = 600.0
        problem.weight[:, 0] = 0.0
    problem.targets.fill_(3)
    exact = problem.leaves(torch.float16).leaves(torch.float64, "cpu")
    problem = problem.leaves(torch.float32 if autocast else torch.float16, device)
    with torch.autocast(device, torch.float16, enabled=autocast):
        loss = linear_truncated_cross_entropy(problem.hidden, problem.weight, problem.targets, threshold=1.0, impl=impl)
    (grad,) = torch.autograd.grad(loss, problem.weight)
    (true,) = torch.autograd.grad(truth.truncated(exact, 1.0), exact.weight)
    assert (true * 200).abs().max() > torch.finfo(torch.float16).max
    assert truth.distance(grad, true) < 2e-3
