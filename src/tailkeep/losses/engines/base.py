"""What every engine offers, and what a caller learns from one pass."""

from dataclasses import dataclass
from typing import Protocol

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
