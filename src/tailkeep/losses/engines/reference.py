"""What every engine offers, and the definition: all logits at once, in eager PyTorch.

Rule: every other engine is tested against this one.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tailkeep.losses.lm_head import Head
from tailkeep.losses.terms import NLL_ALONE, LossTerms
from tailkeep.losses.weighting import Entropy, Weighting


@dataclass(frozen=True)
class TokenLosses:
    """Facts of N tokens from one pass, all (N,) and detached but `losses` and `lse`.

    `losses` are the weighted losses and `lse` the log-sum-exp of the logits, connected to hidden states and head.
    `correct` says whether the target was the most likely token.
    """

    losses: Tensor
    lse: Tensor
    nll: Tensor
    weights: Tensor
    correct: Tensor


class Engine(Protocol):
    """Per-token losses of N valid targets: hidden (N, D), targets (N,) within the vocabulary."""

    def token_nll(
        self, hidden: Tensor, head: Head, targets: Tensor, *, entropy: Entropy
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """(N,) NLL and log-sum-exp, at least float32, and the (N,) detached entropy if requested.

        The gradients of the first two are correct for any upstream ones.
        """
        ...

    def weighted(
        self,
        hidden: Tensor,
        head: Head,
        targets: Tensor,
        weighting: Weighting,
        *,
        terms: LossTerms = NLL_ALONE,
        expected: Tensor | None = None,
    ) -> TokenLosses:
        """The weighted losses of `terms`, best where the upstream gradient is the same for all of them.

        `expected` is what it will probably be, a scalar, 1 by default; the gradients are correct for any other too.
        """
        ...


class Reference:
    """Holds (N, V) logits; for small cases and for tests."""

    def token_nll(
        self, hidden: Tensor, head: Head, targets: Tensor, *, entropy: Entropy
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `Engine`."""
        logits = all_logits(hidden, head)
        nll = F.cross_entropy(logits, targets, reduction="none")
        return nll, logits.logsumexp(-1), entropy_of(logits.detach(), entropy)

    def weighted(
        self,
        hidden: Tensor,
        head: Head,
        targets: Tensor,
        weighting: Weighting,
        *,
        terms: LossTerms = NLL_ALONE,
        expected: Tensor | None = None,
    ) -> TokenLosses:
        """See `Engine`."""
        del expected
        logits = all_logits(hidden, head)
        nll, lse = F.cross_entropy(logits, targets, reduction="none"), logits.logsumexp(-1)
        weights = weighting.factors(nll, entropy_of(logits.detach(), weighting.entropy))
        losses = times(terms.token_losses(nll, lse, terms.mean_logits(logits), targets), weights)
        correct = logits.detach().argmax(-1) == targets
        return TokenLosses(losses, lse, nll.detach(), weights.detach(), correct)


def all_logits(hidden: Tensor, head: Head) -> Tensor:
    """(N, V) logits in float32, or in float64 for float64 inputs."""
    logits = F.linear(hidden, head.weight, head.bias)
    if head.low_rank is not None:
        logits = logits + head.low_rank.hidden @ head.low_rank.weight.T
    return scaled(logits if logits.dtype == torch.float64 else logits.float(), head)


def scaled(logits: Tensor, head: Head) -> Tensor:
    """Logits after the head's scale and cap."""
    logits = logits if head.scale == 1 else logits * head.scale
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def times(losses: Tensor, weights: Tensor) -> Tensor:
    """Losses times weights; a weight of 0 gives 0 even where the loss is infinite."""
    return torch.where(weights != 0, losses * weights, losses.new_zeros(()))


def entropy_of(logits: Tensor, entropy: Entropy) -> Tensor | None:
    """(N,) entropy in nats of softmax(logits), or of its `entropy` largest probabilities made to sum to 1."""
    if entropy is None:
        return None
    if entropy != "full":
        logits = logits.topk(min(entropy, logits.shape[-1])).values
    spread: Tensor = torch.special.entr(logits.softmax(-1)).sum(-1)
    return spread
