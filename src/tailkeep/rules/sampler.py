"""A new token for each position to edit, by inverse transform sampling, and the plan by which a scorer asks for it.

Rules: a sample is a pure function of its arguments. Probabilities become integers before they are summed, so the order
in which a device adds cannot change a sample, and among equally probable tokens the lower id comes first. A decision
depends only on the token's document, its position and its distribution.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailkeep.rules.config import Rule, Sampler
from tailkeep.rules.policy import Action, Actions, apply_rule

# The weight of the most probable candidate. The sum over 2**22 tokens still fits into 63 bits; only candidates
# 10**12 times less probable than the first are lost.
_SCALE = 2.0**40

Stream = Callable[[str], NDArray[np.float64]]
"""The name of a stream -> one uniform number per token (T,)."""


def sample_tokens(
    log_probs: Tensor, originals: Tensor, uniforms: Tensor, sampler: Sampler, *, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sample a token at each of F positions; where there is no candidate the original stays.

    Args:
        log_probs: (F, V) the prior's full distribution at each position, in nats; half precision becomes float32.
        originals: (F,) int64, the original tokens. Each is a candidate even if it is not allowed, unless the
            sampler excludes it.
        uniforms: (F, max_attempts) float64 in [0, 1).
        allowed: (V,) mask of token ids that may be sampled; all by default.

    Returns:
        (F,) ids, and (F,) their log-probabilities under the full distribution, float32.
    """
    full = log_probs.float()
    original_ids = originals[:, None]
    values, ids = _candidates(full, original_ids, sampler, allowed)
    weights = _weights(values, sampler.temperature)
    if sampler.top_p is not None:
        weights = _nucleus(weights, sampler.top_p)
    sums = weights.cumsum(1)
    indices = _invert(sums, uniforms)
    attempts = indices if ids is None else ids.gather(1, indices)
    # argmax finds the first attempt that differs, and attempt 0 if none does.
    accepted = (attempts != original_ids).to(torch.uint8).argmax(1, keepdim=True)
    sampled_ids = torch.where(sums[:, -1:] > 0, attempts.gather(1, accepted), original_ids)
    return sampled_ids.squeeze(1), full.gather(1, sampled_ids).squeeze(1)


def _candidates(
    full: Tensor, original_ids: Tensor, sampler: Sampler, allowed: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """(F, C) log-probabilities of the candidates, -inf for other tokens, and their ids if they are not 0 to V-1."""
    values = full.clone() if allowed is None else full.masked_fill(~allowed, -torch.inf)
    values.scatter_(1, original_ids, full.gather(1, original_ids))
    if sampler.exclude_original:
        values.scatter_(1, original_ids, -torch.inf)
    if sampler.top_k is not None and sampler.top_k < values.shape[1]:
        return _most_probable(values, sampler.top_k)
    return (values, None) if sampler.top_p is None else _ranked(values, values.shape[1])


def _most_probable(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` most probable candidates of each row in the order of `_ranked`, mostly without its cost."""
    top, ids = values.topk(count + 1)
    tied = top[:, count - 1] == top[:, count]
    inner = _ranked(top[:, :count], count, ids[:, :count])
    if not tied.any():
        return inner
    exact = _ranked(values[tied], count)
    return inner[0].index_put((tied,), exact[0]), inner[1].index_put((tied,), exact[1])


def _ranked(values: Tensor, count: int, ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(F, count) candidates and their ids by descending probability, then ascending id.

    Equal log-probabilities are common, since logits from a half-precision head are coarse, and which of them topk
    returns is undefined. So they become keys without ties: the bits of a non-negative float rise with its value.
    """
    if ids is None:
        ids = torch.arange(values.shape[1], device=values.device).expand_as(values)
    unlikely = values.clamp(max=0).abs().view(torch.int32).long()
    indices = ((unlikely << 32) | ids).topk(count, largest=False, sorted=True).indices
    return values.gather(1, indices), ids.gather(1, indices)


def _weights(values: Tensor, temperature: float) -> Tensor:
    """(F, C) int64, proportional to p ** (1 / temperature); all 0 in a row without a candidate, or with a NaN."""
    relative = (values - values.amax(1, keepdim=True)).div_(temperature)
    return relative.exp_().nan_to_num_(0.0).mul_(_SCALE).long()


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """`weights` with 0 after the fewest first candidates that hold `top_p` of the total."""
    before = weights.cumsum(1) - weights
    return weights * (before < top_p * weights.sum(1, keepdim=True).double())


def _invert(sums: Tensor, uniforms: Tensor) -> Tensor:
    """(F, max_attempts) the first index whose cumulative weight exceeds `uniforms` times the total."""
    total = sums[:, -1:]
    shares = torch.minimum((uniforms.double() * total.double()).long(), total - 1)
    return torch.searchsorted(sums, shares, right=True).clamp(max=sums.shape[1] - 1)


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
