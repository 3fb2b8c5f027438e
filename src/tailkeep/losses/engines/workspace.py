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

_CPU_ROWS = 512
_GPU_LOGITS = 1 << 28


def rows_for(hidden: Tensor, head: Head) -> int:
    """How many rows of logits to hold at once."""
    return _CPU_ROWS if hidden.device.type == "cpu" else max(_CPU_ROWS, _GPU_LOGITS // len(head.weight))


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
        if hidden.dtype == rows.dtype:
            torch.mm(hidden, self.head.weight.T, out=rows)
        else:
            rows.copy_(hidden @ self.head.weight.T)
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

    def flush(self, gradients: "Gradients", hidden: Tensor, *, unless_room: bool = False) -> None:
        """Add what waits to `gradients`, `unless_room` is left for another half buffer."""
        if self.filled and not (unless_room and self.room >= len(self.waiting) / 2):
            factors = torch.cat(self.factors) if self.factors else None
            gradients.add(self.waiting[: self.filled], factors, torch.cat(self.places), hidden, self.head)
            self.filled = 0
            self.places.clear()
            self.factors.clear()


@dataclass
class Gradients:
    """Sums over kept rows, those of weight and bias in the wide type; None where a gradient is not wanted.

    `weight` holds nothing yet while it is `blank`: the first product then writes what zeros would be added to.
    """

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    dtype: torch.dtype
    blank: bool = True

    @classmethod
    def of(cls, hidden: Tensor, head: Head, wanted: tuple[bool, ...]) -> "Gradients":
        """Zeros for those of (hidden, weight, bias) that are wanted."""
        sums = wide(hidden.dtype)
        return cls(
            torch.zeros_like(hidden) if wanted[0] else None,
            torch.empty_like(head.weight, dtype=sums, memory_format=torch.contiguous_format) if wanted[1] else None,
            torch.zeros_like(head.bias, dtype=sums) if head.bias is not None and wanted[2] else None,
            hidden.dtype,
        )

    @property
    def wanted(self) -> bool:
        """Whether there is anything to compute."""
        return not (self.hidden is None and self.weight is None and self.bias is None)

    def add(self, rows: Tensor, factors: Tensor | None, places: Tensor, hidden: Tensor, head: Head) -> None:
        """Add the part of kept rows: `rows` (n, V), times `factors` (n,) if given, is the gradient at the products."""
        if factors is not None and rows.dtype != self.dtype:
            # Half precision multiplies probabilities, which fit its range, and adds up in the wide type.
            rows, factors = rows.mul_(factors[:, None]).to(self.dtype), None
        if self.bias is not None:
            self.bias += rows.sum(0, dtype=self.bias.dtype) if factors is None else rows.T @ factors
        if self.hidden is not None:
            self.hidden[places] = _times(rows @ head.weight, factors)
        if self.weight is not None:
            _accumulate(self.weight, rows.T, _times(hidden[places], factors), beta=0 if self.blank else 1)
            self.blank = False

    def finish(self, factor: Tensor | None = None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients times `factor`, in the type of what they belong to; the sums are used up."""

        if self.weight is not None and self.blank:
            self.weight.zero_()

        def final(gradient: Tensor | None) -> Tensor | None:
            if gradient is None:
                return None
            # Before a sum becomes narrow: over all tokens it may be too large for float16, where their mean is not.
            return (gradient if factor is None else gradient.mul_(factor)).to(self.dtype)

        return final(self.hidden), final(self.weight), final(self.bias)


def _times(rows: Tensor, factors: Tensor | None) -> Tensor:
    """Rows that nobody else holds, times a factor each."""
    return rows if factors is None else rows.mul_(factors[:, None])


def _accumulate(total: Tensor, left: Tensor, right: Tensor, *, beta: int) -> None:
    """total = beta * total + left @ right, without rounding a half-precision product where the device can."""
    if total.is_cuda and total.dtype != left.dtype:
        torch.addmm(total, left, right, out_dtype=total.dtype, beta=beta, out=total)
    elif left.dtype != torch.bfloat16:
        # In float16 a sum over tokens may be too large, and on a CPU its products are no faster than these.
        torch.addmm(total, left.to(total.dtype), right.to(total.dtype), beta=beta, out=total)
    elif beta == 0:
        total.copy_(left @ right)
    else:
        total += left @ right
