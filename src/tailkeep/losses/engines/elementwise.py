"""The elementwise half of the chunked losses: what happens to a chunk's logits between two matrix products.

Rule: rows never mix, so a token's numbers do not depend on the chunk that it fell into.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tailkeep.losses.head import Head
from tailkeep.losses.weighting import Entropy

_PIECE = 32
"""Rows that a temporary copy may hold."""
_CACHED = 1 << 18
"""Logits of which a CPU's cache surely holds two copies."""


@dataclass(frozen=True)
class Found:
    """A chunk of n tokens after the forward pass; all but `rows` are (n,).

    `rows` (n, V) is what `Elementwise.keep` needs to see again, `chosen` the target's logit z, `highest` the row's
    largest one, `sums` the sum of exp(z - highest), `entropy` that of the prediction, if wanted.
    """

    rows: Tensor
    targets: Tensor
    chosen: Tensor
    highest: Tensor
    sums: Tensor
    nll: Tensor
    entropy: Tensor | None

    @property
    def correct(self) -> Tensor:
        """Whether the target has the largest logit."""
        return self.chosen >= self.highest


class Elementwise(Protocol):
    """From products hidden @ weight.T to losses, and on to the gradient at those products."""

    def buffers(self, rows: int, hidden: Tensor, head: Head) -> tuple[Tensor, Tensor]:
        """Room for (rows, V) products and for as many gradients; one buffer for both if `keep` works in place."""
        ...

    def read(self, rows: Tensor, targets: Tensor, head: Head, entropy: Entropy) -> Found:
        """The losses of the products `rows` (n, V), which may be overwritten."""
        ...

    def keep(self, found: Found, factors: Tensor, head: Head, out: Tensor) -> tuple[Tensor, Tensor | None]:
        """The gradient of sum(factors * nll) at the products of the k rows with a factor, as the first k rows of `out`.

        `factors` are (n,), `out` is (n, V) and `found.rows` itself if both share a buffer.

        Returns:
            Which rows they are, (k,), and (k,) factors by which they still have to be multiplied, None if by none.
        """
        ...


class InPlace:
    """Plain PyTorch in one buffer of at least float32: products become logits, exponentials, then gradients."""

    def buffers(self, rows: int, hidden: Tensor, head: Head) -> tuple[Tensor, Tensor]:
        """See `Elementwise`."""
        buffer = hidden.new_empty((rows, len(head.weight)), dtype=wide(hidden.dtype))
        return buffer, buffer

    def read(self, rows: Tensor, targets: Tensor, head: Head, entropy: Entropy) -> Found:
        """See `Elementwise`; leaves exp(z - highest) in `rows`."""
        # On a CPU a few rows at a time: they stay in its cache between operations, which saves 3 to 8 % of a step.
        size = max(1, _CACHED // rows.shape[1]) if rows.device.type == "cpu" else len(rows)
        pieces = zip(torch.split(rows, size), torch.split(targets, size), strict=True)
        chosen, highest, sums = torch.cat([_exponentials(*piece, head) for piece in pieces], 1)
        nll = sums.log() + (highest - chosen)
        spread = None if entropy is None else _entropy(rows, sums, entropy)
        return Found(rows, targets, chosen, highest, sums, nll, spread)

    def keep(self, found: Found, factors: Tensor, head: Head, out: Tensor) -> tuple[Tensor, Tensor]:
        """See `Elementwise`."""
        kept, holes = _fewest_moves(factors.nonzero().squeeze(1))
        for piece in torch.split(holes, _PIECE):
            out.index_copy_(0, piece, out.index_select(0, kept[piece]))
        out, sums = out[: len(kept)], found.sums[kept]
        # (p - [target]) times the row's sum, which the factors divide by again.
        minus = -sums
        if head.softcap is not None:
            _flatten(out, found.highest[kept], head.softcap)
            # Not from the exponential, which is 0 for a target far below the highest logit.
            minus *= 1 - (found.chosen[kept] / head.softcap).square_()
        out.scatter_add_(1, found.targets[kept, None], minus[:, None])
        return kept, factors[kept] / sums * head.scale


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type in which losses of `dtype` inputs are computed and added up."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _exponentials(rows: Tensor, targets: Tensor, head: Head) -> Tensor:
    """Turn products into exponentials, in place; (3, n) the target's logit, the highest one and the row's sum."""
    if head.bias is not None:
        rows.add_(head.bias)
    if head.scale != 1:
        rows.mul_(head.scale)
    if head.softcap is not None:
        rows.div_(head.softcap).tanh_().mul_(head.softcap)
    chosen = rows.gather(1, targets[:, None]).squeeze(1)
    highest = rows.amax(1)
    return torch.stack([chosen, highest, rows.sub_(highest[:, None]).exp_().sum(1)])


def _fewest_moves(kept: Tensor) -> tuple[Tensor, Tensor]:
    """An order of the k rows `kept` in which most stay where they are, and the places below k that others come to.

    With most rows kept, moving each one forward in its order took a twentieth of a step's time.
    """
    staying = kept[kept < len(kept)]
    holes = torch.ones_like(kept, dtype=torch.bool).index_fill_(0, staying, False).nonzero().squeeze(1)
    places = torch.arange(len(kept), device=kept.device)
    return places.index_copy_(0, holes, kept[len(staying) :]), holes


def _entropy(exponents: Tensor, sums: Tensor, entropy: Entropy) -> Tensor:
    """(n,) entropy in nats of each row's prediction, or of its `entropy` most likely tokens."""
    parts: list[Tensor] = []
    for rows, total in zip(torch.split(exponents, _PIECE), torch.split(sums, _PIECE), strict=True):
        if entropy is not None and entropy != "full":
            rows = rows.topk(min(entropy, rows.shape[1])).values
            total = rows.sum(1)
        parts.append(torch.special.entr(rows).sum(1) / total + total.log())
    return torch.cat(parts)


def _flatten(exponents: Tensor, highest: Tensor, softcap: float) -> None:
    """Multiply by the cap's slope, 1 - (z / softcap)^2, in place; z = ln e + highest."""
    for rows, top in zip(torch.split(exponents, _PIECE), torch.split(highest, _PIECE), strict=True):
        capped = (rows.log() + top[:, None]).div_(softcap).clamp_(-1, 1)
        rows.mul_(1 - capped.square_())
