"""A new token for each position to edit, by inverting the distribution function at a given uniform number.

Rule: a draw is a pure function of its arguments. Probabilities become whole numbers before they are added up, so the
order in which a device adds cannot change a draw, and among equally probable tokens the lower id comes first.
"""

import torch
from torch import Tensor

from tailkeep.rules.config import Sampler

# The weight of the most probable candidate. The sum over 2**22 tokens still fits into 63 bits, and what is lost are
# candidates 10**12 times less probable than the first.
_SCALE = 2.0**40


def sample_tokens(
    log_probs: Tensor, originals: Tensor, uniforms: Tensor, sampler: Sampler, *, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Draw a token at each of F positions; where there is no candidate the original stays.

    Args:
        log_probs: (F, V) the prior's full distribution at each position, in nats; half precision becomes float32.
        originals: (F,) int64, the token that stands there. It is a candidate also if it is not allowed, since
            staying is always possible, unless the sampler excludes it.
        uniforms: (F, max_attempts) float64 in [0, 1).
        allowed: (V,) boolean, the tokens that may be drawn; all if not given.

    Returns:
        (F,) ids, and (F,) their log-probabilities under the full distribution, float32.
    """
    full = log_probs.float()
    own = originals[:, None]
    values, ids = _candidates(full, own, sampler, allowed)
    weights = _weights(values, sampler.temperature)
    if sampler.top_p is not None:
        weights = _nucleus(weights, sampler.top_p)
    sums = weights.cumsum(1)
    places = _places(sums, uniforms)
    drawn = places if ids is None else ids.gather(1, places)
    # argmax finds the first try that differs, and try 0 if none does.
    accepted = (drawn != own).to(torch.uint8).argmax(1, keepdim=True)
    chosen = torch.where(sums[:, -1:] > 0, drawn.gather(1, accepted), own)
    return chosen.squeeze(1), full.gather(1, chosen).squeeze(1)


def _candidates(full: Tensor, own: Tensor, sampler: Sampler, allowed: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """(F, C) log-probabilities of what may be drawn, -inf for what may not, and their ids if they are not 0 to V-1."""
    kept = torch.full_like(own, -torch.inf, dtype=full.dtype) if sampler.exclude_original else full.gather(1, own)
    values = full.clone() if allowed is None else full.masked_fill(~allowed, -torch.inf)
    values.scatter_(1, own, kept)
    if sampler.top_k is not None and sampler.top_k < values.shape[1]:
        return _most_probable(values, sampler.top_k)
    return (values, None) if sampler.top_p is None else _ranked(values, values.shape[1])


def _most_probable(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` most probable candidates of each row as `_ranked` gives them, mostly without its cost."""
    found, ids = values.topk(count + 1)
    tied = found[:, count - 1] == found[:, count]
    inner = _ranked(found[:, :count], count, ids[:, :count])
    if not tied.any():
        return inner
    exact = _ranked(values[tied], count)
    return inner[0].index_put((tied,), exact[0]), inner[1].index_put((tied,), exact[1])


def _ranked(values: Tensor, count: int, ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(F, count) candidates and their ids in falling order of probability, then rising order of id.

    Equal log-probabilities are common, since logits from a half-precision head are coarse, and which of them topk
    takes is not defined. So they become keys without ties: the bits of a float that is not negative rise with it.
    """
    if ids is None:
        ids = torch.arange(values.shape[1], device=values.device).expand_as(values)
    unlikely = values.clamp(max=0).abs().view(torch.int32).long()
    places = ((unlikely << 32) | ids).topk(count, largest=False, sorted=True).indices
    return values.gather(1, places), ids.gather(1, places)


def _weights(values: Tensor, temperature: float) -> Tensor:
    """(F, C) int64, proportional to p ** (1 / temperature); all 0 in a row without a candidate, or with a NaN."""
    relative = (values - values.amax(1, keepdim=True)).div_(temperature)
    return relative.exp_().nan_to_num_(0.0).mul_(_SCALE).long()


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """The fewest first candidates that hold `top_p` of the weight."""
    before = weights.cumsum(1) - weights
    return weights * (before < top_p * weights.sum(1, keepdim=True).double())


def _places(sums: Tensor, uniforms: Tensor) -> Tensor:
    """(F, max_attempts) the place of each draw: the first where the sum of the weights exceeds its share of the
    total."""
    total = sums[:, -1:]
    shares = torch.minimum((uniforms.double() * total.double()).long(), total - 1)
    return torch.searchsorted(sums, shares, right=True).clamp(max=sums.shape[1] - 1)
