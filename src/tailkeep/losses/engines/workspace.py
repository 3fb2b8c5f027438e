"""One buffer of logits that is used again for every chunk, and the gradients that it adds up.

Rule: rows that count wait at the buffer's front for others, so that each backward product has enough rows to be worth
its pass over the vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tailkeep.losses.engines.elementwise import Elementwise, Found, wide
from tailkeep.losses.head import Head
from tailkeep.losses.weighting import Entropy

_CPU_ROW_BYTES = 2048
"""Bytes of a buffer for each word of the vocabulary: 512 rows in float32, 1,024 in bfloat16, 256 in float64."""
_GPU_ROWS = 512
_GPU_LOGITS = 1 << 28
_WIDE_WORDS = 1024
"""Words of the vocabulary in a forward product on a CPU in a wide type: an eighth faster than all of them at once."""
_NARROW_WORDS = 4096
"""Words of the vocabulary whose narrow gradients are made before they are added up in the wide type."""
_ROOM = 0.75
"""Share of the buffer that a chunk needs to be worth its pass over the weight; 0 to 4 % faster than .5."""


def rows_for(hidden: Tensor, head: Head, dtype: torch.dtype | None = None) -> int:
    """How many rows of logits to hold at once, in `dtype` if not in that of `hidden`."""
    if hidden.device.type == "cpu":
        return _CPU_ROW_BYTES // (dtype or hidden.dtype).itemsize
    return max(_GPU_ROWS, _GPU_LOGITS // len(head.weight))


@dataclass
class Workspace:
    """Room for (rows, V) products and gradients; the first `filled` gradients wait for the backward product."""

    head: Head
    elementwise: Elementwise
    products: Tensor
    waiting: Tensor
    filled: int = 0
    places: list[Tensor] = field(default_factory=list)
    factors: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, hidden: Tensor, head: Head, elementwise: Elementwise, rows: int | None) -> "Workspace":
        """An empty workspace for tokens like `hidden` (N, D)."""
        rows = max(1, min(rows or rows_for(hidden, head), len(hidden)))
        return cls(head, elementwise, *elementwise.buffers(rows, hidden, head))

    @property
    def room(self) -> int:
        """How many rows the next chunk may have."""
        return len(self.waiting) - self.filled

    def chunks(self, n: int) -> Iterator[slice]:
        """All n rows, as many at a time as the buffer has."""
        return (slice(start, start + len(self.waiting)) for start in range(0, n, len(self.waiting)))

    def read(self, hidden: Tensor, targets: Tensor, entropy: Entropy = None) -> Found:
        """The losses of `hidden` (n, D), n at most `room`."""
        rows = self.products[self.filled : self.filled + len(hidden)]
        words = (
            _WIDE_WORDS if hidden.device.type == "cpu" and hidden.dtype == wide(hidden.dtype) else len(self.head.weight)
        )
        for weight, products in zip(torch.split(self.head.weight, words), torch.split(rows, words, 1), strict=True):
            torch.mm(hidden, weight.T, out=products)
        return self.elementwise.read(rows, targets, self.head, entropy)

    def keep(self, found: Found, places: Tensor | int, factors: Tensor) -> None:
        """Leave in the buffer what the backward product needs of the rows with a factor.

        `factors` are (n,); `places` are the rows' positions in the whole batch, or the first one of them.
        """
        out = self.waiting[self.filled : self.filled + len(factors)]
        kept, left = self.elementwise.keep(found, factors, self.head, out)
        if left is not None:
            self.factors.append(left)
        self.places.append(kept + places if isinstance(places, int) else places[kept])
        self.filled += len(kept)

    def flush(self, gradients: "Gradients", hidden: Tensor, *, more: bool) -> None:
        """Add what waits to `gradients`; if `more` rows may come, only what leaves them too little room."""
        if self.filled and not (more and self.room >= _ROOM * len(self.waiting)):
            factors = torch.cat(self.factors) if self.factors else None
            gradients.add(
                self.waiting[: self.filled], factors, torch.cat(self.places), hidden, self.head, last=not more
            )
            self.filled = 0
            self.places.clear()
            self.factors.clear()


@dataclass
class Gradients:
    """Sums over kept rows in the wide type, and the rows' own gradients in theirs; None where one is not wanted.

    `weight` is None until the first product comes. One in bfloat16 that stays alone is not widened: nothing is added.
    """

    hidden: Tensor | None
    bias: Tensor | None
    weight: Tensor | None
    weight_wanted: bool
    like: Tensor

    @classmethod
    def of(cls, hidden: Tensor, head: Head, wanted: tuple[bool, ...]) -> "Gradients":
        """Nothing yet for those of (hidden, weight, bias) that are wanted."""
        bias = torch.zeros_like(head.bias, dtype=wide(hidden.dtype)) if head.bias is not None and wanted[2] else None
        return cls(torch.zeros_like(hidden) if wanted[0] else None, bias, None, wanted[1], head.weight)

    @property
    def wanted(self) -> bool:
        """Whether there is anything to compute."""
        return self.weight_wanted or self.hidden is not None or self.bias is not None

    def add(
        self, rows: Tensor, factors: Tensor | None, places: Tensor, hidden: Tensor, head: Head, *, last: bool
    ) -> None:
        """Add the part of kept rows: `rows` (n, V), times `factors` (n,) if given, is the gradient at the products."""
        if self.bias is not None:
            self.bias += rows.sum(0, dtype=self.bias.dtype) if factors is None else rows.T @ factors
        if self.hidden is not None:
            self.hidden[places] = _times(rows @ head.weight, factors)
        if self.weight_wanted:
            self.weight = _plus_product(self.weight, rows.T, _times(hidden[places], factors), last=last)

    def finish(self, factor: Tensor | None = None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients times `factor`, in the type of what they belong to; the sums are used up."""
        if self.weight_wanted and self.weight is None:
            self.weight = torch.zeros_like(self.like, memory_format=torch.contiguous_format)

        def final(gradient: Tensor | None) -> Tensor | None:
            if gradient is None:
                return None
            # Before a sum becomes narrow: over all tokens it may be too large for float16, where their mean is not.
            return (gradient if factor is None else gradient.mul_(factor)).to(self.like.dtype)

        return final(self.hidden), final(self.weight), final(self.bias)


def _times(rows: Tensor, factors: Tensor | None) -> Tensor:
    """Rows that nobody else holds, times a factor each."""
    return rows if factors is None else rows.mul_(factors[:, None])


def _plus_product(total: Tensor | None, left: Tensor, right: Tensor, *, last: bool) -> Tensor:
    """total + left @ right, in place and in the wide type unless nothing is ever added.

    On a GPU a narrow product is not rounded before it is added; elsewhere one in bfloat16 is.
    """
    dtype = wide(left.dtype)
    if left.dtype == dtype or (total is None and last and left.dtype == torch.bfloat16):
        return left @ right if total is None else torch.addmm(total, left, right, out=total)
    beta = 0 if total is None else 1
    if total is None:
        total = left.new_empty((len(left), right.shape[1]), dtype=dtype)
    if total.is_cuda:
        return torch.addmm(total, left, right, out_dtype=dtype, beta=beta, out=total)
    for part, some in zip(torch.split(total, _NARROW_WORDS), torch.split(left, _NARROW_WORDS), strict=True):
        if left.dtype == torch.float16:
            # A sum over tokens may be too large for float16. Autocast leaves alone what is written to `out`.
            torch.addmm(part, some.to(dtype), right.to(dtype), beta=beta, out=part)
        elif beta == 0:
            part.copy_(some @ right)
        else:
            part.add_(some @ right)
    return total
