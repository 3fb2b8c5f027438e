"""Gradients that are added up from the rows that wait in a workspace.

Rule: what is added up is wide, and becomes narrow once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tailkeep.losses.engines.elementwise import wide
from tailkeep.losses.head import Head

_NARROW_WORDS = 4096
"""Words of the vocabulary whose narrow gradients are made before they are added up in the wide type."""


@dataclass
class Gradients:
    """Sums over kept rows in the wide type, and the rows' own gradients in theirs; None where one is not wanted.

    `weight` is None until the first product comes. One in bfloat16 that stays alone is not widened: nothing is added.
    """

    hidden: Tensor | None
    bias: Tensor | None
    weight: Tensor | None
    weight_wanted: bool

    @classmethod
    def of(cls, hidden: Tensor, head: Head, wanted: tuple[bool, ...]) -> "Gradients":
        """Nothing yet for those of (hidden, weight, bias) that are wanted."""
        bias = torch.zeros_like(head.bias, dtype=wide(hidden.dtype)) if head.bias is not None and wanted[2] else None
        return cls(torch.zeros_like(hidden) if wanted[0] else None, bias, None, wanted[1])

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

    def finish(
        self, weight: Tensor, factor: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients times `factor`, in the type of `weight` (V, D); where no row was added its gradient is 0.

        The sums are used up.
        """
        if self.weight_wanted and self.weight is None:
            self.weight = torch.zeros_like(weight, memory_format=torch.contiguous_format)

        def final(gradient: Tensor | None) -> Tensor | None:
            if gradient is None:
                return None
            # Before a sum becomes narrow: over all tokens it may be too large for float16, where their mean is not.
            return (gradient if factor is None else gradient.mul_(factor)).to(weight.dtype)

        return final(self.hidden), final(self.weight), final(self.bias)


def may_stay_narrow(dtype: torch.dtype) -> bool:
    """Whether a lone product of `dtype` may be the gradient. A sum over tokens may be too large for float16."""
    return dtype == torch.bfloat16


def _times(rows: Tensor, factors: Tensor | None) -> Tensor:
    """Rows that nobody else holds, times a factor each."""
    return rows if factors is None else rows.mul_(factors[:, None])


def _plus_product(total: Tensor | None, left: Tensor, right: Tensor, *, last: bool) -> Tensor:
    """total + left @ right, in place and in the wide type unless nothing is ever added.

    On a GPU a narrow product is not rounded before it is added; elsewhere one in bfloat16 is.
    """
    dtype = wide(left.dtype)
    if left.dtype == dtype or (total is None and last and may_stay_narrow(left.dtype)):
        return left @ right if total is None else torch.addmm(total, left, right, out=total)
    beta = 0 if total is None else 1
    if total is None:
        total = left.new_empty((len(left), right.shape[1]), dtype=dtype)
    if total.is_cuda:
        return torch.addmm(total, left, right, out_dtype=dtype, beta=beta, out=total)
    if not may_stay_narrow(left.dtype):
        right = right.to(dtype)
    for part, some in zip(torch.split(total, _NARROW_WORDS), torch.split(left, _NARROW_WORDS), strict=True):
        if right.dtype == dtype:
            # Autocast leaves alone what is written to `out`.
            torch.addmm(part, some.to(dtype), right, beta=beta, out=part)
        elif beta == 0:
            part.copy_(some @ right)
        else:
            part.add_(some @ right)
    return total
