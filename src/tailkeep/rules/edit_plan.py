"""The decisions of one edit of several documents, in the form a scorer calls them: token by token, in any order.

Rule: a decision depends only on the token's document, its position and its distribution.
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
"""The name of a stream -> one uniform number per token (T,)."""


class EditPlan:
    """What a rule and a sampler do to T tokens, which stand document by document. A scorer calls `flag` and `sample`.

    Args:
        starts: (documents,) the index of each document's first token.
        editable: (T,) mask of tokens that may be edited.
        allowed: (V,) mask of token ids that may be sampled.
        stream: uniform numbers for a random rule (`judge`) and for the sampler's attempts (`draw 0`, `draw 1`, ...).

    Attributes:
        actions: (T,) values of `Action`; `KEEP` for tokens not decided yet.
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
        self._rule_uniforms = stream("judge") if rule.name == "random" else None
        self._sampler_uniforms = np.stack([stream(f"draw {number}") for number in range(sampler.max_attempts)], axis=1)

    def flag(
        self, documents: NDArray[np.int64], positions: NDArray[np.int64], log_probs: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Decide these tokens (N,); return the mask of those to resample."""
        at = self._starts[documents] + positions
        uniforms = None if self._rule_uniforms is None else self._rule_uniforms[at]
        actions = apply_rule(log_probs, self._rule, uniforms=uniforms)
        self.actions[at] = np.where(self._editable[at], actions, Action.KEEP)
        return np.asarray(self.actions[at] == Action.RESAMPLE)

    def sample(
        self, documents: NDArray[np.int64], positions: NDArray[np.int64], log_probs: Tensor, originals: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A token for each of F positions, and its log-probability; see `sample_tokens`."""
        uniforms = torch.from_numpy(self._sampler_uniforms[self._starts[documents] + positions]).to(log_probs.device)
        return sample_tokens(log_probs, originals, uniforms, self._sampler, allowed=self._allowed.to(log_probs.device))
