"""Label smoothing, class weights, z-loss and the log-sum-exp, by each engine. The truth is float64, class by class."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tailkeep.errors import ConfigError
from tailkeep.losses import (
    TruncatedCrossEntropyLoss,
    linear_token_nll,
    linear_truncated_cross_entropy,
    linear_weighted_cross_entropy,
    token_nll,
    truncated,
    truncated_cross_entropy,
    weighted_cross_entropy,
)
from tailkeep.losses.engines.chunked import Chunked
from tailkeep.losses.lm_head import Head
from tailkeep.losses.terms import LossTerms
from tailkeep.losses.weightings import focal
from tests.losses.engines import truth
from tests.losses.engines.places import INTERPRETED, everywhere
from tests.losses.test_linear import agree

CLASSES = torch.linspace(0, 2, 11, dtype=torch.float64)
"""Weights of 11 classes, one of which is 0."""
TERMS = [
    {"label_smoothing": 0.1},
    {"class_weight": CLASSES},
    {"z_loss": 0.01},
    {"label_smoothing": 0.2, "class_weight": CLASSES},
    {"label_smoothing": 1.0, "z_loss": 0.3},
    {"label_smoothing": 0.3, "class_weight": CLASSES, "z_loss": 0.02},
]
HEADS = [{}, {"bias": True, "scale": -0.7, "softcap": 3.0}]


def with_terms(heads=HEADS, terms=TERMS):
    if INTERPRETED:
        terms = terms[-1:]  # a second apiece
    return everywhere("head", "terms", cases=[(head, options) for head in heads for options in terms])


def on(device, terms, dtype=torch.float64):
    """The same with class weights there."""
    weights = terms.get("class_weight")
    return terms if weights is None else {**terms, "class_weight": weights.to(device, dtype)}


def kept_factors(problem, threshold):
    """1. for valid targets whose plain probability is at most the threshold."""
    return (torch.exp(-truth.token_nll(problem).detach()) <= threshold).double()


def reduced(losses, problem, factors, reduction, class_weight=None):
    """The loss of token losses, its denominator by the class weights if there are any."""
    valid = problem.targets != truth.IGNORED
    shares = valid.double() if class_weight is None else class_weight[problem.targets.where(valid, 0)] * valid
    match reduction:
        case "none":
            return losses
        case "sum":
            return losses.sum()
        case "mean":
            return losses.sum() / shares.sum()
    return losses.sum() / (shares * factors).sum()


@with_terms()
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_kept"])
def test_truncated_losses_with_terms_are_those_written_out_class_by_class(impl, device, head, terms, reduction):
    expected = truth.problem(3, shape=(5, 8), **head)
    leaves, threshold = expected.leaves(device=device), truth.middle(expected)
    factors = kept_factors(expected, threshold)
    true = reduced(
        truth.with_terms(expected, factors, **terms), expected, factors, reduction, terms.get("class_weight")
    )

    def loss():
        return linear_truncated_cross_entropy(
            leaves.hidden,
            leaves.weight,
            leaves.targets,
            threshold=threshold,
            reduction=reduction,
            **leaves.head,
            **on(device, terms),
            impl=impl,
        )

    # Every token's gradient is wanted alike, then not.
    agree(leaves, expected, loss(), true, torch.full_like(true, 0.3))
    true = reduced(
        truth.with_terms(expected, factors, **terms), expected, factors, reduction, terms.get("class_weight")
    )
    agree(leaves, expected, loss(), true, torch.rand_like(true))


@with_terms()
def test_a_gradient_through_the_weights_multiplies_all_terms(impl, device, head, terms):
    expected = truth.problem(4, **head)
    leaves = expected.leaves(device=device)
    true = truth.with_terms(expected, (1 - torch.exp(-truth.token_nll(expected))) ** 2, **terms).sum()
    loss = linear_weighted_cross_entropy(
        leaves.hidden,
        leaves.weight,
        leaves.targets,
        focal(2.0),
        reduction="sum",
        **leaves.head,
        **on(device, terms),
        impl=impl,
    )
    agree(leaves, expected, loss, true)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, CLASSES.float()])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_at_a_threshold_of_one_they_are_those_of_torch(smoothing, weights, reduction):
    expected = truth.problem(5, bias=True)
    logits = truth.logits_of(expected).detach().float()
    plain = F.cross_entropy(
        logits, expected.targets, weight=weights, label_smoothing=smoothing, reduction=reduction
    ).double()
    options = {"label_smoothing": smoothing, "class_weight": weights, "reduction": reduction}
    assert truth.distance(truncated_cross_entropy(logits, expected.targets, threshold=1.0, **options), plain) < 1e-6
    weighting = truncated(1.0)
    assert truth.distance(weighted_cross_entropy(logits, expected.targets, weighting, **options), plain) < 1e-6
    module = TruncatedCrossEntropyLoss(1.0, weight=weights, label_smoothing=smoothing, reduction=reduction)
    assert truth.distance(module(logits, expected.targets), plain) < 1e-6
    leaves = expected.leaves(torch.float32)
    fused = linear_truncated_cross_entropy(
        leaves.hidden, leaves.weight, leaves.targets, threshold=1.0, bias=leaves.bias, **options
    )
    assert truth.distance(fused, plain) < 1e-5


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_kept"])
def test_losses_of_logits_have_the_same_terms(terms, reduction):
    expected = truth.problem(6, shape=(4, 9))
    threshold = truth.middle(expected)
    factors = kept_factors(expected, threshold)
    true = reduced(
        truth.with_terms(expected, factors, **terms), expected, factors, reduction, terms.get("class_weight")
    )
    logits = truth.logits_of(expected)
    logits.retain_grad()
    loss = truncated_cross_entropy(
        logits, expected.targets, threshold=threshold, reduction=reduction, **on("cpu", terms, torch.float32)
    )
    assert truth.distance(loss, true) < 1e-5
    upstream = torch.rand_like(true)
    (grad,) = torch.autograd.grad(loss, logits, upstream.to(loss))
    # The truth from the same logits.
    again = replace(expected, hidden=logits.detach().requires_grad_(), weight=torch.eye(logits.shape[-1]), bias=None)
    true = reduced(truth.with_terms(again, factors, **terms), again, factors, reduction, terms.get("class_weight"))
    assert truth.distance(grad, torch.autograd.grad(true, again.hidden, upstream)[0]) < 1e-5


@everywhere()
def test_a_truncated_token_has_neither_a_loss_nor_a_gradient_of_any_term(impl, device):
    problem = truth.problem(7, ignored=0, spread=3.0)
    leaves = problem.leaves(device=device)
    p, threshold = torch.exp(-truth.token_nll(problem).detach()), truth.middle(problem)
    losses = linear_truncated_cross_entropy(
        leaves.hidden,
        leaves.weight,
        leaves.targets,
        threshold=threshold,
        reduction="none",
        **on(device, TERMS[-1]),
        impl=impl,
    )
    dropped = p > threshold
    assert 5 < int(dropped.sum()) < 35
    assert not losses.cpu()[dropped].any()
    (grad,) = torch.autograd.grad(losses.sum(), leaves.hidden)
    assert not grad.cpu()[dropped].any()
    assert grad.cpu()[~dropped].any(1).all()


@with_terms()
def test_the_log_sum_exp_has_right_gradients_beside_those_of_the_losses(impl, device, head, terms):
    expected = truth.problem(8, shape=(3, 7), **head)
    leaves, valid = expected.leaves(device=device), expected.targets != truth.IGNORED
    to_loss, to_lse = torch.rand(2, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    true_lse = torch.where(valid, truth.logits_of(expected).logsumexp(-1), 0.0)
    inputs = (leaves.hidden, leaves.weight, leaves.targets)
    nll, lse = linear_token_nll(*inputs, **leaves.head, return_lse=True, impl=impl)
    assert truth.distance(lse, true_lse) < 1e-10
    for loss, true in (
        (lse * to_lse.to(device), true_lse * to_lse),
        (nll * to_loss.to(device) + lse * to_lse.to(device), truth.token_nll(expected) * to_loss + true_lse * to_lse),
    ):
        found = torch.autograd.grad(loss.sum(), leaves.inputs, retain_graph=True)
        exact = torch.autograd.grad(true.sum(), expected.inputs, retain_graph=True)
        assert max(map(truth.distance, found, exact)) < 1e-10
    factors = kept_factors(expected, truth.middle(expected))
    losses, stats, lse = linear_truncated_cross_entropy(
        *inputs,
        **leaves.head,
        **on(device, terms),
        threshold=truth.middle(expected),
        reduction="none",
        return_stats=True,
        return_lse=True,
        impl=impl,
    )
    assert stats.kept_fraction.item() == pytest.approx((factors * valid).sum().item() / valid.sum().item())
    true = truth.with_terms(expected, factors, **terms)
    agree(
        leaves,
        expected,
        (losses * to_loss.to(device) + lse * to_lse.to(device)).sum(),
        (true * to_loss + true_lse * to_lse).sum(),
    )
    _, lse = linear_truncated_cross_entropy(*inputs, **leaves.head, return_lse=True, impl=impl)
    agree(leaves, expected, lse.sum(), torch.where(valid, truth.logits_of(expected).logsumexp(-1), 0.0).sum())


@everywhere("dtype", cases=[(torch.bfloat16,), (torch.float16,), (torch.float32,)])
def test_terms_are_computed_in_float32_whatever_the_inputs_are(impl, device, dtype):
    exact = truth.problem(9, shape=(60,), width=8, softcap=20.0)
    rounded = replace(
        exact, hidden=exact.hidden.detach().to(dtype).double(), weight=exact.weight.detach().to(dtype).double()
    )
    for tensor in rounded.inputs:
        tensor.requires_grad_()
    leaves, threshold = rounded.leaves(dtype, device), truth.middle(rounded)
    terms = TERMS[-1]
    loss = linear_truncated_cross_entropy(
        leaves.hidden,
        leaves.weight,
        leaves.targets,
        threshold=threshold,
        **leaves.head,
        **on(device, terms, torch.float32),
        impl=impl,
    )
    factors = kept_factors(rounded, threshold)
    true = reduced(truth.with_terms(rounded, factors, **terms), rounded, factors, "mean", CLASSES)
    # Products are rounded to the inputs' type, the loss is not.
    error = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-6}[dtype]
    assert loss.dtype == torch.float32
    assert truth.distance(loss, true) < error
    found = truth.gradients(loss, leaves)
    assert max(map(truth.distance, found, truth.gradients(true, rounded))) < 3 * error


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_smoothing_with_class_weights_sums_a_vocabulary_in_float32(dtype):
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(4, 32_000, generator=generator) + 5, torch.arange(4)
    options = {"class_weight": torch.linspace(0.5, 2, 32_000), "label_smoothing": 0.1}
    expected = F.cross_entropy(logits, targets, options["class_weight"], label_smoothing=0.1)
    hidden, weight = torch.eye(4), logits.T.contiguous()
    with torch.autocast("cpu", dtype):
        of_logits = truncated_cross_entropy(logits, targets, threshold=1.0, **options)
        of_hidden = linear_truncated_cross_entropy(hidden, weight, targets, threshold=1.0, **options)
    torch.testing.assert_close(of_logits, expected, rtol=1e-5, atol=0)
    # Autocast rounds its logits, not their sum.
    torch.testing.assert_close(of_hidden, expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("terms", TERMS)
def test_the_size_of_a_chunk_changes_no_term(rows, terms):
    expected = truth.problem(10, shape=(17,), ignored=0, softcap=4.0)
    leaves, threshold = expected.leaves(), truth.middle(expected)
    head = Head(leaves.weight, None, 1.0, 4.0)
    found = (
        Chunked(rows)
        .weighted(leaves.hidden, head, leaves.targets, truncated(threshold), terms=LossTerms(**terms))
        .losses
    )
    agree(leaves, expected, found.sum(), truth.with_terms(expected, kept_factors(expected, threshold), **terms).sum())


@with_terms()
def test_gradients_of_gradients_with_terms_are_those_of_all_logits(impl, device, head, terms):
    expected = truth.problem(11, **head)
    leaves = expected.leaves(device=device)

    def penalised(loss, inputs):
        grads = torch.autograd.grad(loss, inputs, create_graph=True)
        return torch.autograd.grad(loss + sum(grad.square().sum() for grad in grads), inputs)

    loss, lse = linear_weighted_cross_entropy(
        leaves.hidden,
        leaves.weight,
        leaves.targets,
        focal(2.0),
        reduction="sum",
        return_lse=True,
        **leaves.head,
        **on(device, terms),
        impl=impl,
    )
    valid = expected.targets != truth.IGNORED
    true = truth.with_terms(expected, (1 - torch.exp(-truth.token_nll(expected))) ** 2, **terms).sum()
    true = true + torch.where(valid, truth.logits_of(expected).logsumexp(-1), 0.0).sum() / 5
    found = penalised(loss + lse.sum() / 5, leaves.inputs)
    assert max(map(truth.distance, found, penalised(true, expected.inputs))) < 1e-9


@everywhere()
def test_rows_that_pad_the_vocabulary_have_no_part_in_smoothing(impl, device):
    expected = truth.problem(12)
    leaves = expected.leaves(device=device)
    padded = torch.cat([leaves.weight, torch.full((3, 6), 50.0, dtype=torch.float64, device=device)])
    loss = linear_truncated_cross_entropy(
        leaves.hidden,
        padded,
        leaves.targets,
        threshold=1.0,
        valid_vocab_size=11,
        reduction="sum",
        **on(device, TERMS[-1]),
        impl=impl,
    )
    true = truth.with_terms(expected, torch.ones(40, dtype=torch.float64), **TERMS[-1]).sum()
    assert truth.distance(loss, true) < 1e-10


BAD_TERMS = [
    ({"label_smoothing": 1.5}, r"label_smoothing 1.5 is not in \[0, 1\]. 0 turns it off, 0.1 is a usual choice"),
    ({"label_smoothing": "a bit"}, "label_smoothing 'a bit' is a str, not a number"),
    ({"label_smoothing": True}, "label_smoothing True is a bool"),
    ({"z_loss": -1e-4}, r"z_loss -0.0001 is not in \[0, inf\)"),
    ({"z_loss": float("nan")}, "z_loss nan is not in"),
    ({"class_weight": [1.0] * 11}, "class_weight is a list, not a torch.Tensor"),
    ({"class_weight": torch.ones(11, 1)}, r"class_weight is \(11, 1\) of torch.float32. Pass one floating-point"),
    ({"class_weight": torch.ones(11, dtype=torch.long)}, r"class_weight is \(11,\) of torch.int64"),
    ({"class_weight": torch.ones(12)}, "class_weight has 12 classes, the logits 11"),
    ({"class_weight": torch.ones(11).requires_grad_()}, "class_weight requires a gradient"),
    ({"class_weight": -torch.ones(11)}, "class_weight has a value that is negative or not finite"),
    ({"class_weight": torch.ones(11, device="meta")}, "class_weight is on meta, the logits on cpu"),
]


@pytest.mark.parametrize(("terms", "message"), BAD_TERMS)
def test_terms_that_cannot_be_used_are_named_with_what_was_received(terms, message):
    problem = truth.problem(13)
    with pytest.raises(ConfigError, match=message):
        linear_truncated_cross_entropy(problem.hidden, problem.weight, problem.targets, **terms)
    with pytest.raises(ConfigError, match=message):
        truncated_cross_entropy(truth.logits_of(problem), problem.targets, **terms)


def test_soft_targets_are_refused_by_name():
    problem = truth.problem(14)
    logits = truth.logits_of(problem)
    soft = logits.softmax(-1)
    calls = [
        lambda: linear_token_nll(problem.hidden, problem.weight, soft),
        lambda: linear_truncated_cross_entropy(problem.hidden, problem.weight, soft),
        lambda: token_nll(logits, soft),
        lambda: truncated_cross_entropy(logits, soft),
        lambda: TruncatedCrossEntropyLoss()(logits, soft),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=r"soft targets \(class probabilities\).*judges the probability of one"):
            call()
