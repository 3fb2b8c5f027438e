import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.errors import ConfigError
from tailkeep.losses import token_nll, truncated_cross_entropy, truncation_mask
from tests.losses.reference import logits_of, probabilities, truncated_sum

THRESHOLDS = [0.2, 0.5, 0.9, 0.99]


def batch(seed, *, rows=40, size=6, scale=3.0, ignored=0.25):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, size, generator=generator) * scale
    targets = torch.randint(0, size, (rows,), generator=generator)
    targets[torch.rand(rows, generator=generator) < ignored] = -100
    return logits, targets


@given(seed=st.integers(0, 10_000), threshold=st.floats(0.01, 1), size=st.integers(2, 9))
def test_value_and_gradient_are_those_of_the_definition(seed, threshold, size):
    logits, targets = batch(seed, size=size)
    valid = targets != -100
    p = probabilities(logits[valid], targets[valid])
    if len(p) and (p - threshold).abs().min() < 1e-6:
        return  # float32 may decide a tie either way
    inputs, reference = (logits.clone().to(dtype).requires_grad_() for dtype in (torch.float32, torch.float64))
    loss = truncated_cross_entropy(inputs, targets, threshold=threshold)
    total, count, _ = truncated_sum(reference, targets, threshold)
    expected = total / max(count, 1)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-7)
    assert torch.allclose(inputs.grad.double(), reference.grad, atol=1e-6)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_each_reduction_is_that_of_the_definition(threshold):
    logits, targets = batch(3, scale=6.0)
    total, count, num_kept = truncated_sum(logits, targets, threshold)
    assert 0 < num_kept < count
    expected = {"sum": total, "mean": total / count, "mean_kept": total / num_kept}
    for reduction, value in expected.items():
        loss = truncated_cross_entropy(logits, targets, threshold=threshold, reduction=reduction)
        assert loss.item() == pytest.approx(value.item(), rel=1e-5)
    none = truncated_cross_entropy(logits, targets, threshold=threshold, reduction="none")
    assert none.shape == targets.shape
    assert none.sum().item() == pytest.approx(total.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_threshold_of_one_is_plain_cross_entropy_exactly(dtype):
    logits, targets = batch(1)
    logits[0] = torch.tensor([500.0, 0, 0, 0, 0, 0])  # a probability that rounds to 1
    targets[0] = 0
    inputs, reference = (logits.to(dtype).requires_grad_() for _ in range(2))
    losses = truncated_cross_entropy(inputs, targets, threshold=1.0, reduction="none")
    plain = F.cross_entropy(reference.float(), targets, reduction="none")
    losses.sum().backward()
    plain.sum().backward()
    assert torch.equal(losses, plain)
    assert torch.equal(inputs.grad, reference.grad)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_truncated_token_has_a_gradient_of_exactly_zero(threshold):
    logits, targets = batch(2, ignored=0.0)
    logits.requires_grad_()
    truncated_cross_entropy(logits, targets, threshold=threshold).backward()
    p = probabilities(logits.detach(), targets)
    truncated = p > threshold
    assert truncated.any()
    assert (logits.grad[truncated] == 0).all()
    assert (logits.grad[~truncated] != 0).any(-1).all()


def test_a_token_of_exactly_the_threshold_is_kept():
    nll = token_nll(torch.zeros(1, 2), torch.tensor([0]))
    assert truncation_mask(nll, threshold=0.5).item()
    assert not truncation_mask(nll, threshold=0.5 - 1e-6).item()


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_tokens_a_hair_from_the_threshold_fall_on_their_side(threshold):
    logits = logits_of([threshold * (1 - 1e-5), threshold * (1 + 1e-5)]).float()
    nll = token_nll(logits, torch.tensor([0, 0]))
    assert truncation_mask(nll, threshold=threshold).tolist() == [True, False]


@given(seed=st.integers(0, 10_000), threshold=st.sampled_from(THRESHOLDS))
def test_logits_in_bfloat16_are_judged_in_float32(seed, threshold):
    logits, targets = batch(seed, ignored=0.0, scale=2.0)
    logits = logits.bfloat16()
    exact = -logits.double().log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    clear = (exact + math.log(threshold)).abs() > 1e-5
    mask = truncation_mask(token_nll(logits, targets), threshold=threshold)
    assert torch.equal(mask[clear], (exact >= -math.log(threshold))[clear])


def test_losses_in_half_precision_are_compared_with_an_unrounded_threshold():
    # -ln .99 = .0100503 rounds to .0100708 in bfloat16, which would keep what lies between.
    nll = torch.tensor([0.01007080078125, 0.010009765625], dtype=torch.bfloat16)
    assert truncation_mask(nll, threshold=0.99).tolist() == [True, False]
    between = math.exp(-0.01005)  # its logarithm lies below the bfloat16 value and above its neighbour
    assert truncation_mask(nll, threshold=between).tolist() == [True, False]


def test_the_mask_carries_no_gradient():
    nll = torch.ones(2, requires_grad=True)
    mask = truncation_mask(nll, threshold=0.9)
    assert mask.dtype == torch.bool
    assert not mask.requires_grad


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_a_loss_that_is_not_a_number_is_never_hidden(threshold):
    logits = torch.tensor([[float("nan"), 0.0], [0.0, 0.0]])
    assert truncated_cross_entropy(logits, torch.tensor([0, 0]), threshold=threshold).isnan()


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_kept"])
@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.full((3,), -100)),
        (torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 1])),
        (torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)),
        (torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.long)),
    ],
    ids=["all ignored", "all truncated", "empty", "empty rows"],
)
def test_nothing_to_learn_is_a_connected_zero_with_finite_gradients(logits, targets, reduction):
    logits = logits.clone().requires_grad_()
    loss = truncated_cross_entropy(logits, targets, threshold=0.5, reduction=reduction)
    loss.sum().backward()
    assert (loss == 0).all()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@given(seed=st.integers(0, 1000), parts=st.integers(1, 5))
def test_micro_batches_with_one_denominator_add_up_to_the_whole_batch(seed, parts):
    logits, targets = batch(seed)
    whole, split = (logits.clone().requires_grad_() for _ in range(2))
    items = (targets != -100).sum()
    loss = truncated_cross_entropy(whole, targets, threshold=0.8)
    loss.backward()
    pieces = [
        truncated_cross_entropy(part, labels, threshold=0.8, num_items=items)
        for part, labels in zip(split.chunk(parts), targets.chunk(parts), strict=True)
    ]
    for piece in pieces:
        piece.backward()
    assert sum(piece.item() for piece in pieces) == pytest.approx(loss.item(), rel=1e-5, abs=1e-7)
    assert torch.allclose(whole.grad, split.grad, atol=1e-7)


def test_another_index_can_be_ignored():
    logits, targets = batch(5)
    other = torch.where(targets == -100, 0, targets + 1)
    shifted = torch.cat([torch.full((len(logits), 1), -1e9), logits], dim=-1)
    loss = truncated_cross_entropy(shifted, other, ignore_index=0)
    assert loss.item() == pytest.approx(truncated_cross_entropy(logits, targets).item(), rel=1e-6)


def test_leading_axes_do_not_matter():
    logits, targets = batch(6, rows=24)
    flat = truncated_cross_entropy(logits, targets)
    assert torch.equal(truncated_cross_entropy(logits.view(2, 3, 4, 6), targets.view(2, 3, 4)), flat)


@pytest.mark.parametrize("threshold", [0, 0.0, -0.1, 1.5, float("nan"), float("inf")])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(ConfigError, match=rf"threshold {threshold} is not in \(0, 1\]"):
        truncated_cross_entropy(torch.zeros(1, 2), torch.tensor([0]), threshold=threshold)


def test_faults_of_shape_reduction_and_denominator_are_passed_on():
    logits, targets = torch.zeros(2, 3), torch.zeros(2, dtype=torch.long)
    with pytest.raises(ConfigError, match="do not fit"):
        truncated_cross_entropy(logits, targets[:1])
    with pytest.raises(ConfigError, match="reduction 'max' is unknown"):
        truncated_cross_entropy(logits, targets, reduction="max")
    with pytest.raises(ConfigError, match="num_items has no effect with reduction 'sum'"):
        truncated_cross_entropy(logits, targets, reduction="sum", num_items=2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_judged_after_the_upcast(dtype):
    # The nearest number to -ln 0.995 in half precision lies on one side of it, and would be taken for it.
    nll = torch.tensor([-math.log(0.995)]).to(dtype)
    expected = float(nll) >= -math.log(0.995)
    assert truncation_mask(nll, threshold=0.995).item() is expected
    assert truncation_mask(nll, threshold=0.995).item() is not bool((nll >= nll.new_tensor(-math.log(0.995))).item())


def test_inputs_that_are_no_tensors_are_named():
    with pytest.raises(ConfigError, match=r"nll is a list, not a torch.Tensor"):
        truncation_mask([0.1, 0.2], threshold=0.9)
    with pytest.raises(ConfigError, match=r"logits is a ndarray, not a torch.Tensor"):
        truncated_cross_entropy(np.zeros((2, 3)), torch.tensor([0, 1]))
    with pytest.raises(ConfigError, match="ignore_index '-100' is a str"):
        truncated_cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]), ignore_index="-100")
