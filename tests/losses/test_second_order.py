"""Gradients of gradients: those of all logits in float64, by every engine, also through an attached model."""

from dataclasses import replace

import pytest
import torch

from tailkeep.errors import ConfigError
from tailkeep.losses import attach, linear_token_nll, linear_weighted_cross_entropy, random_truncation, truncated
from tailkeep.losses.weighting import Weighting
from tailkeep.losses.weightings import focal, mile
from tests.losses.engines import truth
from tests.losses.engines.places import everywhere
from tests.losses.hf.families import tiny
from tests.losses.hf.unfused import batch, halving_threshold

HEAD = {"bias": True, "scale": 0.7, "softcap": 3.0}


def penalised(loss, inputs):
    """The gradients of a loss plus the squared norm of its own gradients."""
    grads = torch.autograd.grad(loss, inputs, create_graph=True)
    return torch.autograd.grad(loss + sum(grad.square().sum() for grad in grads), inputs)


def agree(grads, expected):
    assert all(truth.distance(grad, true) < 1e-9 for grad, true in zip(grads, expected, strict=True))


@everywhere()
def test_the_gradient_of_a_gradient_is_that_of_all_logits(impl, device):
    expected = truth.problem(15, **HEAD)
    leaves = expected.leaves(device=device)
    nll = linear_token_nll(leaves.hidden, leaves.weight, leaves.targets, **leaves.head, impl=impl)
    upstream = torch.linspace(-1, 1, len(nll), dtype=torch.float64)
    true = penalised((truth.token_nll(expected) * upstream).sum(), expected.inputs)
    agree(penalised((nll * upstream.to(device)).sum(), leaves.inputs), true)


@everywhere()
def test_finite_differences_of_gradients_agree(impl, device):
    problem = truth.problem(20, shape=(3,), width=2, vocabulary=4, bias=True, softcap=2.0).leaves(device=device)

    def losses(hidden, weight, bias):
        parts = replace(problem, hidden=hidden, weight=weight, bias=bias)
        return linear_token_nll(hidden, weight, problem.targets, **parts.head, impl=impl)

    assert torch.autograd.gradgradcheck(losses, problem.inputs)


@everywhere("name", cases=[("truncated",), ("focal",), ("mile",)])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_it_holds_under_every_kind_of_weight(impl, device, name, reduction):
    expected = truth.problem(16, **HEAD)
    weighting = {"truncated": truncated(truth.middle(expected)), "focal": focal(2.0), "mile": mile(1.5)}[name]
    leaves = expected.leaves(device=device)
    loss = linear_weighted_cross_entropy(
        leaves.hidden, leaves.weight, leaves.targets, weighting, **leaves.head, reduction=reduction, impl=impl
    )
    nll = truth.token_nll(expected)
    valid = expected.targets != truth.IGNORED
    weights = {
        "truncated": (torch.exp(-nll.detach()) <= truth.middle(expected)).double(),
        "focal": (1 - torch.exp(-nll)) ** 2,
        "mile": (1 + truth.entropy(expected)) ** 1.5,
    }[name]
    true = nll * torch.where(valid, weights, 0.0)
    agree(
        penalised(loss.sum(), leaves.inputs),
        penalised(true.sum() / (valid.sum() if reduction == "mean" else 1), expected.inputs),
    )


@everywhere()
def test_a_state_that_moved_on_does_not_change_which_tokens_counted(impl, device):
    expected = truth.problem(17)
    leaves, draws = expected.leaves(device=device), random_truncation(0.5, 3)
    loss = linear_weighted_cross_entropy(
        leaves.hidden, leaves.weight, leaves.targets, draws, reduction="sum", impl=impl
    )
    valid = expected.targets != truth.IGNORED
    weights = random_truncation(0.5, 3).factors(torch.zeros(int(valid.sum()), dtype=torch.float64), None)
    true = (truth.token_nll(expected)[valid] * weights).sum()
    agree(penalised(loss, leaves.inputs), penalised(true, expected.inputs))


class _Moving:
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_a_state_with_a_gradient_through_its_weights_is_refused():
    problem = truth.problem(18).leaves()
    weighting = Weighting("mine", lambda nll, entropy: nll, state=_Moving())
    loss = linear_weighted_cross_entropy(problem.hidden, problem.weight, problem.targets, weighting, impl="chunked")
    with pytest.raises(ConfigError, match=r"'mine' has a state and a gradient through its weights.*Detach"):
        torch.autograd.grad(loss, problem.hidden, create_graph=True)


@pytest.mark.parametrize("tied", [False, True])
def test_a_gradient_penalty_trains_an_attached_model_as_it_would_the_unfused_one(tied):
    inputs = batch()
    model = tiny("llama", tie_word_embeddings=tied, attn_implementation="eager").double()
    threshold = halving_threshold(model, inputs)
    parameters = [*model.parameters()]
    logits, targets = model(inputs["input_ids"]).logits[:, :-1], inputs["labels"][:, 1:]
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    kept_mask = (targets != -100) & (torch.exp(-nll.detach()) <= threshold)
    expected = penalised((nll * kept_mask).sum() / (targets != -100).sum(), parameters)
    attach(model, threshold=threshold)
    agree(penalised(model(**inputs).loss, parameters), expected)
