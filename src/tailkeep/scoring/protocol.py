"""The interface of a scorer: a language model that scores tokens and hands its distributions to two callbacks.

Rule: a scorer knows no edit rule; which tokens are replaced and by what are two function arguments.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

TokenFlagger = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]], NDArray[np.bool_]]
"""(documents (N,), positions (N,), ln p (N,)) -> (N,) mask of the tokens to resample.

Each scored token is passed once. Which tokens share a call has no meaning; ln p can be NaN.
"""

TokenSampler = Callable[[NDArray[np.int64], NDArray[np.int64], Tensor, Tensor], tuple[Tensor, Tensor]]
"""(documents (F,), positions (F,), ln p (F, V) float32, original ids (F,)) -> (new ids (F,), their ln p (F,)).

Called with the tokens that one call of the flagger flagged. A result may depend only on document, position and
distribution.
"""


@dataclass(frozen=True)
class ScoredDocument:
    """One document: `log_probs` (T,) in nats, NaN for the first token; for each flagged position the sampled token."""

    log_probs: NDArray[np.float32]
    positions: NDArray[np.int64]
    ids: NDArray[np.int32]
    new_log_probs: NDArray[np.float32]


class Scorer(Protocol):
    """A language model used only to score text."""

    name: str
    vocab_size: int

    def identity(self) -> dict[str, Any]:
        """Everything that can change a score, as JSON values for a fingerprint."""
        ...

    def score(
        self, rows: Iterable[NDArray[np.int32]], flag: TokenFlagger | None = None, sample: TokenSampler | None = None
    ) -> Iterator[ScoredDocument]:
        """The scores of each document, in order. Without `flag` nothing is flagged; with it `sample` is required.

        Raises:
            InputError: a token id that the model cannot read.
        """
        ...
