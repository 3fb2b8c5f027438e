"""What every engine offers, and what a caller learns from one pass."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from tailkeep.losses.lm_head import Head
from tailkeep.losses.weighting import Entropy, Weighting


@dataclass(frozen=True)
class TokenLosses:
    """Facts of N tokens from one pass, all (N,) and detached but `losses`.

    `losses` are the weighted losses, connected to hidden states and head. `correct` says whether the target was the
    most likely token.
    """

    losses: Tensor
    nll: Tensor
    weights: Tensor
    correct: Tensor


class Engine(Protocol):
    """Per-token losses of N valid targets: hidden (N, D), targets (N,) within the vocabulary."""

    def token_nll(
        self, hidden: Tensor, head: Head, targets: Tensor, *, entropy: Entropy
    ) -> tuple[Tensor, Tensor | None]:
        """(N,) float32 NLL, correct gradients for any upstream ones, and the (N,) detached entropy if requested."""
        ...

    def weighted(
        self, hidden: Tensor, head: Head, targets: Tensor, weighting: Weighting, *, expected: Tensor | None = None
    ) -> TokenLosses:
        """The weighted losses, best where the upstream gradient is the same for all of them.

        `expected` is what it will probably be, a scalar, 1 by default; the gradients are correct for any other too.
        """
        ...
