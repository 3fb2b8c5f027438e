"""The judge and the draw of one edit of several documents, as a scorer asks for them: token by token, in any order.

Rule: what becomes of a token depends on its document, its position and its distribution alone.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailkeep.rules.config import Rule, Sampler
from tailkeep.rules.policy import Action, Actions, apply_rule
from tailkeep.rules.sampler import sample_tokens

Stream = Callable[[str], NDArray[np.float64]]
"""The name of a stream -> a uniform number for each token (T,)."""


class EditPlan:
    """What a rule and a sampler do to T tokens, which stand document by document. A scorer calls `flag` and `sample`.

    Args:
        starts: (documents,) where each document's tokens begin.
        editable: (T,) which tokens may be edited at all.
        allowed: (V,) boolean, the tokens that may be drawn.
        stream: the numbers by which a random rule chooses (`judge`) and the sampler draws (`draw 0`, `draw 1`, ...).

    Attributes:
        actions: (T,) values of `Action`; those of tokens that were not judged yet are `KEEP`.
    """

    def __init__(
        self,
        rule: Rule,
        sampler: Sampler,
        *,
        starts: NDArray[np.int64],
        editable: NDArray[np.bool_],
        allowed: Tensor,
        stream: Stream,
    ) -> None:
        self.actions: Actions = np.full(len(editable), Action.KEEP, np.int8)
        self._rule, self._sampler = rule, sampler
        self._starts, self._editable, self._allowed = starts, editable, allowed
        self._coins = stream("judge") if rule.name == "random" else None
        self._chances = np.stack([stream(f"draw {number}") for number in range(sampler.max_attempts)], axis=1)

    def flag(
        self, documents: NDArray[np.int64], positions: NDArray[np.int64], log_probs: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Which of these tokens (N,) are drawn anew."""
        at = self._starts[documents] + positions
        found = apply_rule(log_probs, self._rule, uniforms=None if self._coins is None else self._coins[at])
        self.actions[at] = np.where(self._editable[at], found, Action.KEEP)
        return np.asarray(self.actions[at] == Action.RESAMPLE)

    def sample(
        self, documents: NDArray[np.int64], positions: NDArray[np.int64], rows: Tensor, originals: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A token for each of F positions, and its log-probability; see `drawing.draw`."""
        own = torch.from_numpy(self._chances[self._starts[documents] + positions]).to(rows.device)
        return sample_tokens(rows, originals, own, self._sampler, allowed=self._allowed.to(rows.device))
