import math

import pytest
import torch
import torch.nn.functional as F

from tailkeep.errors import ConfigError
from tailkeep.losses.cross_entropy import weighted_cross_entropy
from tailkeep.losses.linear import linear_weighted_cross_entropy
from tailkeep.losses.options import LOSSES, named_weighting
from tailkeep.losses.truncation import truncated, truncated_cross_entropy
from tailkeep.losses.weighting import CROSS_ENTROPY, Weighting
from tests.losses.reference import weighted
from tests.losses.test_options import OPTIONS

REDUCTIONS = ["none", "sum", "mean", "mean_kept"]


def make(name):
    return named_weighting(name, **OPTIONS.get(name, {}))


def batch(seed=0, *, rows=60, size=9, scale=3.0, ignored=0.25):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, size, generator=generator) * scale
    targets = torch.randint(0, size, (rows,), generator=generator)
    targets[torch.rand(rows, generator=generator) < ignored] = -100
    return logits, targets


def factor_of(name, p, row):
    """The weight of a target of probability p in a prediction `row`, in float64, as the papers define it."""
    top = row.detach().topk(min(20, len(row))).values
    entropies = [-(shares * shares.log()).sum() for shares in (row.detach(), top / top.sum())]
    return {
        "cross_entropy": lambda: 1.0,
        "truncated": lambda: float(p <= 0.99),
        "focal": lambda: (1 - p) ** 2,
        "mile": lambda: 1 + entropies[0],
        "eaft": lambda: entropies[1] / math.log(20),
        "dft": lambda: p.detach(),
        "stm": lambda: float(p >= 0.4),
        "dynamic": lambda: float(p <= 0.99),
        "scheduled": lambda: 1.0,
        "target_kept": lambda: float(p <= 0.99),
    }[name]()


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"random", "random_matched"}))
def test_value_and_gradient_are_those_of_the_definition_in_float64(name):
    logits, targets = batch(size=30)
    inputs, reference = (logits.clone().to(dtype).requires_grad_() for dtype in (torch.float32, torch.float64))
    rows = iter(reference[targets != -100].softmax(-1))
    losses, factors = weighted(reference, targets, lambda p: factor_of(name, p, next(rows)))
    expected = (losses * factors).sum() / len(losses)
    loss = weighted_cross_entropy(inputs, targets, make(name))
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(inputs.grad.double(), reference.grad, atol=1e-6)


@pytest.mark.parametrize("engine", ["reference", "chunked"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_the_fused_loss_is_that_of_explicit_logits(name, reduction, engine):
    generator = torch.Generator().manual_seed(1)
    # More rows than a chunk has, so that a state which moved within a micro-batch would show.
    hidden = torch.randn(3, 200, 5, generator=generator)
    weight, bias = torch.randn(40, 5, generator=generator), torch.randn(40, generator=generator)
    targets = torch.randint(0, 40, (3, 200), generator=generator)
    targets[0, 20:90] = -100
    fused, plain = make(name), make(name)
    for _ in range(2):
        leaves = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
        other = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
        head = {"bias": leaves[2], "scale": 0.7, "softcap": 8.0}
        loss = linear_weighted_cross_entropy(*leaves[:2], targets, fused, reduction=reduction, impl=engine, **head)
        logits = 8 * torch.tanh(0.7 * F.linear(*other) / 8)
        expected = weighted_cross_entropy(logits, targets, plain, reduction=reduction)
        upstream = torch.linspace(0, 1, loss.numel()).view(loss.shape) if reduction == "none" else torch.tensor(3.0)
        loss.backward(upstream)
        expected.backward(upstream)
        assert torch.allclose(loss, expected, rtol=1e-4, atol=1e-5)
        for leaf, expected_leaf in zip(leaves, other, strict=True):
            assert torch.allclose(
                leaf.grad, expected_leaf.grad, rtol=1e-3, atol=1e-4 * float(expected_leaf.grad.abs().max())
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cross_entropy_is_that_of_torch_exactly(dtype):
    logits, targets = batch()
    inputs, reference = (logits.to(dtype).requires_grad_() for _ in range(2))
    losses = weighted_cross_entropy(inputs, targets, CROSS_ENTROPY, reduction="none")
    plain = F.cross_entropy(reference.float(), targets, reduction="none")
    losses.sum().backward()
    plain.sum().backward()
    assert torch.equal(losses, plain)
    assert torch.equal(inputs.grad, reference.grad)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("threshold", [0.3, 0.9, 1.0])
def test_the_truncated_weighting_is_truncated_cross_entropy(threshold, reduction):
    logits, targets = batch(2)
    loss = weighted_cross_entropy(logits, targets, truncated(threshold), reduction=reduction)
    assert torch.equal(loss, truncated_cross_entropy(logits, targets, threshold=threshold, reduction=reduction))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(3,), (0,), (2, 0), ()])
def test_without_a_valid_target_the_loss_is_a_connected_zero(name, reduction, shape):
    logits = torch.randn(*shape, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = weighted_cross_entropy(logits, torch.full(shape, -100), make(name), reduction=reduction)
    loss.sum().backward()
    assert (loss == 0).all()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "options", "winner"),
    [
        ("truncated", {"threshold": 0.5}, 0),
        ("stm", {}, 1),
        ("dft", {}, 1),
        ("eaft", {"k": 2}, 0),
        ("scheduled", {"start": 0.5, "end": 0.5, "steps": 1}, 0),
    ],
)
def test_with_all_tokens_left_out_the_loss_is_a_connected_zero(name, options, winner, reduction):
    logits = torch.zeros(3, 2)
    logits[:, winner] = 300.0
    logits.requires_grad_()
    loss = weighted_cross_entropy(
        logits, torch.zeros(3, dtype=torch.long), named_weighting(name, **options), reduction=reduction
    )
    loss.sum().backward()
    assert (loss == 0).all()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_a_single_token_without_axes_has_a_loss():
    loss = weighted_cross_entropy(torch.zeros(4), torch.tensor(2), CROSS_ENTROPY)
    assert loss.item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("name", ["mile", "eaft"])
def test_the_entropy_is_that_of_the_row_however_many_rows_there_are(name):
    logits, targets = batch(3, rows=700)
    losses = weighted_cross_entropy(logits.to(torch.bfloat16), targets, make(name), reduction="none")
    parts = [
        weighted_cross_entropy(rows, part, make(name), reduction="none")
        for rows, part in zip(logits.to(torch.bfloat16).split(7), targets.split(7), strict=True)
    ]
    assert torch.allclose(losses, torch.cat(parts), rtol=1e-6)


def test_denominators_are_those_of_all_losses():
    logits, targets = batch(4)
    total = weighted_cross_entropy(logits, targets, make("dft"), reduction="sum")
    assert weighted_cross_entropy(logits, targets, make("dft"), num_items=17).item() == pytest.approx(total.item() / 17)
    with pytest.raises(ConfigError, match="num_items has no effect with reduction 'sum'"):
        weighted_cross_entropy(logits, targets, make("dft"), reduction="sum", num_items=2)
    with pytest.raises(ConfigError, match="do not fit"):
        weighted_cross_entropy(logits, targets[:1], make("dft"))


def fused_loss(weighting):
    return linear_weighted_cross_entropy(
        torch.randn(3, 2, requires_grad=True), torch.randn(4, 2), torch.tensor([0, 1, 2]), weighting
    )


def loss_on_logits(weighting):
    return weighted_cross_entropy(torch.randn(3, 4), torch.tensor([0, 1, 2]), weighting)


@pytest.mark.parametrize(
    "weigh", [lambda nll, entropy: entropy, lambda nll, entropy: 1.0, lambda nll, entropy: nll[:1]]
)
@pytest.mark.parametrize("loss", [fused_loss, loss_on_logits])
def test_a_weighting_that_gives_no_factor_a_token_is_named(weigh, loss):
    with pytest.raises(ConfigError, match=r"the loss 'odd' weighs \(3,\) tokens with .* Return a tensor with a factor"):
        loss(Weighting("odd", weigh))


@pytest.mark.parametrize("loss", [fused_loss, loss_on_logits])
def test_a_name_is_no_weighting(loss):
    with pytest.raises(ConfigError, match=r"weighting 'truncated' is no Weighting. Make one, or call named_weighting"):
        loss("truncated")
