"""Hidden states, an output layer and targets as a trained model has them. One seed: every process has the same ones.

Targets are drawn from the predictions themselves, sharp enough that a target costs about 2.5 nats: kernels that profit
from small probabilities (and a truncation that drops large ones) meet what they would meet in training.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NATS = 2.5
ROWS = 64
"""Logits of so many tokens are made at a time, so that preparation holds less memory than what is measured."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""hidden (N, D), weight (V, D), targets (N,) -> a connected scalar, the mean over targets."""


@dataclass(frozen=True)
class Inputs:
    """hidden (N, D) and weight (V, D), which want gradients; targets (N,) and their NLL in nats."""

    hidden: Tensor
    weight: Tensor
    targets: Tensor
    nll: Tensor

    def forward_backward(self, loss: Loss) -> None:
        """What is timed: the loss, and the gradients of hidden states and weight."""
        loss(self.hidden, self.weight, self.targets).backward()
        self.hidden.grad = self.weight.grad = None

    def gradient_error(self, loss: Loss, truth: tuple[Tensor, Tensor]) -> float:
        """The larger relative error of the two gradients, as |g - truth| / |truth|."""
        loss(self.hidden, self.weight, self.targets).backward()
        errors = []
        for tensor, exact in zip((self.hidden, self.weight), truth, strict=True):
            assert tensor.grad is not None
            errors.append(float((tensor.grad - exact).norm() / exact.norm()))
            tensor.grad = None
        return max(errors)


def sampled(*, tokens: int, width: int, vocab: int, dtype: torch.dtype, device: str) -> Inputs:
    """Seeded inputs; logits are normal with the deviation at which a large softmax has an entropy of `NATS`."""
    generator = torch.Generator(device).manual_seed(0)
    deviation = math.sqrt(2 * max(math.log(vocab) - NATS, 1))
    hidden = torch.randn(tokens, width, generator=generator, device=device).to(dtype)
    weight = torch.randn(vocab, width, generator=generator, device=device).mul_(deviation / math.sqrt(width)).to(dtype)
    targets, nll = [], []
    for rows in hidden.split(ROWS):
        logits = F.linear(rows, weight).float()
        # The smallest of exponential variables divided by probabilities is a draw from them.
        waiting = torch.empty_like(logits).exponential_(generator=generator)
        targets.append((logits - waiting.log_()).argmax(1))
        nll.append(F.cross_entropy(logits, targets[-1], reduction="none"))
    return Inputs(hidden.requires_grad_(), weight.requires_grad_(), torch.cat(targets), torch.cat(nll))


def threshold_keeping(share: float, nll: Tensor) -> float:
    """The probability above which the surest tokens are dropped so that `share` of them stays."""
    ordered = nll.double().sort(descending=True).values
    num_kept = round(share * len(ordered))
    if num_kept >= len(ordered):
        return 1.0
    # Between two tokens, so that no rounding decides about either.
    return math.exp(-float(ordered[max(num_kept - 1, 0) : num_kept + 1].mean()))


def true_gradients(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Gradients of plain mean cross-entropy for hidden states and weight, in float64."""
    hidden, weight = inputs.hidden.detach().double(), inputs.weight.detach().double()
    for_hidden, for_weight = torch.empty_like(hidden), torch.zeros_like(weight)
    for start in range(0, len(hidden), ROWS):
        rows = slice(start, start + ROWS)
        slopes = torch.softmax(hidden[rows] @ weight.T, 1).div_(len(hidden))
        slopes[torch.arange(len(slopes), device=slopes.device), inputs.targets[rows]] -= 1 / len(hidden)
        for_hidden[rows] = slopes @ weight
        for_weight.addmm_(slopes.T, hidden[rows])
    return for_hidden, for_weight
