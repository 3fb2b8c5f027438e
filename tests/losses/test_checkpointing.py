"""A loss inside an activation checkpoint, which computes it a second time during the backward pass."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from tailkeep.errors import ConfigError
from tailkeep.losses import (
    linear_truncated_cross_entropy,
    linear_weighted_cross_entropy,
    random_truncation,
    scheduled_truncation,
    weighted_cross_entropy,
)

TOKENS, WIDTH, VOCABULARY = 1500, 8, 50


def problem():
    draw = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, WIDTH, generator=draw).requires_grad_() for n in (TOKENS, VOCABULARY))
    return hidden, weight, torch.randint(VOCABULARY, (TOKENS,), generator=draw)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_around_the_loss_costs_one_more_computation_and_changes_nothing(reentrant):
    hidden, weight, targets = problem()

    def loss(hidden):
        return linear_truncated_cross_entropy(hidden, weight, targets, threshold=0.1)

    with FlopCounterMode(display=False) as once:
        expected = torch.autograd.grad(loss(hidden), [hidden, weight])
    with FlopCounterMode(display=False) as twice:
        checkpoint(loss, hidden, use_reentrant=reentrant).backward()
    assert all(map(torch.equal, expected, [hidden.grad, weight.grad]))
    assert twice.get_total_flops() <= 2 * once.get_total_flops()


@pytest.mark.parametrize("weighting", [random_truncation(0.5, 0), scheduled_truncation(1.0, 0.1, 3)])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_a_loss_with_a_state_is_not_computed_twice(weighting, reentrant, fused):
    hidden, weight, targets = problem()

    def loss(hidden):
        if fused:
            return linear_weighted_cross_entropy(hidden, weight, targets, weighting)
        return weighted_cross_entropy(hidden @ weight.T, targets, weighting)

    value = checkpoint(loss, hidden, use_reentrant=reentrant)
    with pytest.raises(ConfigError, match=r"has a state, and a checkpoint computes it a second time. Checkpoint the"):
        value.backward()
