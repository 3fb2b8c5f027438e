"""What a scorer offers the room that edits, and what it asks of it.

Rule: nothing here knows a rule; which tokens go and what comes instead are two functions handed in.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

TokenFlagger = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]], NDArray[np.bool_]]
"""(documents (N,), positions (N,), ln p (N,)) -> (N,) whether this token is to be drawn anew.

Each scored token is judged once, by itself. What stands together in a call says nothing; ln p can be NaN.
"""

TokenSampler = Callable[[NDArray[np.int64], NDArray[np.int64], Tensor, Tensor], tuple[Tensor, Tensor]]
"""(documents (F,), positions (F,), ln p (F, V) float32, original ids (F,)) -> (new ids (F,), their ln p (F,)).

Called with what was flagged of one call of the judge: what is drawn must depend on document, position and distribution
alone.
"""


@dataclass(frozen=True)
class ScoredDocument:
    """One document: `log_probs` (T,) in nats, NaN for the first token; per flagged position what was drawn."""

    log_probs: NDArray[np.float32]
    positions: NDArray[np.int64]
    ids: NDArray[np.int32]
    new_log_probs: NDArray[np.float32]


class Scorer(Protocol):
    """A language model used only to score text."""

    name: str
    vocab_size: int

    def identity(self) -> dict[str, Any]:
        """What can change a score, as plain values for a fingerprint."""
        ...

    def score(
        self, rows: Iterable[NDArray[np.int32]], judge: TokenFlagger | None = None, draw: TokenSampler | None = None
    ) -> Iterator[ScoredDocument]:
        """Each document's scores, in order. Without `judge` nothing is flagged; with it `draw` is needed.

        Raises:
            InputError: a token id that the model cannot read.
        """
        ...
