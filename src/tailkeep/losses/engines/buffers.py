"""The buffers of logits that every chunk uses again, and the gradients that are added up from them.

Rule: what is added up is in the wide type and is cast once. Rows that count wait for others, so that each backward
product has enough rows to be worth its pass over the vocabulary. They wait at the front of the products' own buffer, or
in another where products cannot be overwritten.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tailkeep.losses.engines.logit_ops import LogitOps, LogitStats, Partials, accumulation_dtype
from tailkeep.losses.lm_head import Head
from tailkeep.losses.terms import NLL_ALONE, LossTerms
from tailkeep.losses.weighting import Entropy

_NARROW_WORDS = 4096
"""Words of the vocabulary whose narrow gradients are made before they are added up in the wide type."""


@dataclass
class FactorGradients:
    """Of both factors of one product, left (N, D) @ right (V, D).T, whose gradient comes for some rows at a time.

    `left` are the rows' own gradients in their type, `right` a sum over rows in the wide one; None where one needs no
    gradient, and `right` until the first rows come. One in bfloat16 that stays alone is not widened: nothing is added.
    """

    left: Tensor | None
    right: Tensor | None
    right_needs_grad: bool

    @classmethod
    def of(cls, left: Tensor | None, needs_grad: tuple[bool, bool]) -> "FactorGradients":
        """Nothing yet."""
        return cls(torch.zeros_like(left) if left is not None and needs_grad[0] else None, None, needs_grad[1])

    @property
    def needs_grad(self) -> bool:
        """Whether there is anything to compute."""
        return self.right_needs_grad or self.left is not None

    def add(
        self, rows: Tensor, factors: Tensor | None, places: Tensor, left: Tensor, right: Tensor, *, last: bool
    ) -> None:
        """Add the part of the rows at `places`: `rows` (n, V), times `factors` (n,) if given."""
        if self.left is not None:
            self.left[places] = _times(rows @ right, factors)
        if self.right_needs_grad:
            self.right = _plus_product(self.right, rows.T, _times(left[places], factors), last=last)

    def finish(self, right: Tensor | None, factor: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """See `Gradients.finish`."""
        if self.right_needs_grad and self.right is None and right is not None:
            self.right = torch.zeros_like(right, memory_format=torch.contiguous_format)
        return _final(self.left, factor, right), _final(self.right, factor, right)


@dataclass
class Gradients:
    """What is added up: of hidden states and weight, of both factors of a low-rank product, and of the bias."""

    main: FactorGradients
    low_rank: FactorGradients
    bias: Tensor | None

    @classmethod
    def of(cls, hidden: Tensor, head: Head, needs_grad: tuple[bool, ...]) -> "Gradients":
        """Nothing yet, for those of the hidden states and of `Head.tensors` that need a gradient; () is none."""
        _, bias, low, _ = head.tensors()
        of_hidden, of_weight, of_bias, of_low, of_up = needs_grad or (False,) * 5
        wide = accumulation_dtype(hidden.dtype)
        return cls(
            FactorGradients.of(hidden, (of_hidden, of_weight)),
            FactorGradients.of(low, (of_low, of_up)),
            torch.zeros_like(bias, dtype=wide) if bias is not None and of_bias else None,
        )

    @property
    def needs_grad(self) -> bool:
        """Whether there is anything to compute."""
        return self.main.needs_grad or self.low_rank.needs_grad or self.bias is not None

    def add(
        self, rows: Tensor, factors: Tensor | None, places: Tensor, hidden: Tensor, head: Head, *, last: bool
    ) -> None:
        """Add the part of kept rows: `rows` (n, V), times `factors` (n,) if given, is the gradient at the products."""
        if self.bias is not None:
            self.bias += rows.sum(0, dtype=self.bias.dtype) if factors is None else rows.T @ factors
        self.main.add(rows, factors, places, hidden, head.weight, last=last)
        if head.low_rank is not None:
            self.low_rank.add(rows, factors, places, head.low_rank.hidden, head.low_rank.weight, last=last)

    def finish(self, head: Head, factor: Tensor | None = None) -> tuple[Tensor | None, ...]:
        """The gradients of hidden states and `Head.tensors` times `factor`, in their type; 0 where no row was added.

        The sums are used up.
        """
        weight, bias, _, up = head.tensors()
        to_hidden, to_weight = self.main.finish(weight, factor)
        return (to_hidden, to_weight, _final(self.bias, factor, bias), *self.low_rank.finish(up, factor))


def _final(gradient: Tensor | None, factor: Tensor | None, of: Tensor | None) -> Tensor | None:
    if gradient is None or of is None:
        return None
    # Before a sum becomes narrow: over all tokens it may be too large for float16, where their mean is not.
    return (gradient if factor is None else gradient.mul_(factor)).to(of.dtype)


def may_stay_narrow(dtype: torch.dtype) -> bool:
    """Whether a lone product of `dtype` may be the gradient. A sum over tokens may be too large for float16."""
    return dtype == torch.bfloat16


def _times(rows: Tensor, factors: Tensor | None) -> Tensor:
    """Rows that nothing else refers to, times a factor each."""
    return rows if factors is None else rows.mul_(factors[:, None])


def _plus_product(total: Tensor | None, row_factors: Tensor, right: Tensor, *, last: bool) -> Tensor:
    """total + row_factors @ right, in place and in the wide type unless nothing is ever added.

    On a GPU a narrow product is not rounded before it is added; elsewhere one in bfloat16 is.
    """
    dtype = accumulation_dtype(row_factors.dtype)
    if row_factors.dtype == dtype or (total is None and last and may_stay_narrow(row_factors.dtype)):
        return row_factors @ right if total is None else torch.addmm(total, row_factors, right, out=total)
    beta = 0 if total is None else 1
    if total is None:
        total = row_factors.new_empty((len(row_factors), right.shape[1]), dtype=dtype)
    if total.is_cuda:
        return torch.addmm(total, row_factors, right, out_dtype=dtype, beta=beta, out=total)
    if not may_stay_narrow(row_factors.dtype):
        right = right.to(dtype)
    for part, some in zip(torch.split(total, _NARROW_WORDS), torch.split(row_factors, _NARROW_WORDS), strict=True):
        if right.dtype == dtype:
            # Autocast leaves alone what is written to `out`.
            torch.addmm(part, some.to(dtype), right, beta=beta, out=part)
        elif beta == 0:
            part.copy_(some @ right)
        else:
            part.add_(some @ right)
    return total


_CPU_ROW_BYTES = 2048
"""Bytes of a buffer for each word of the vocabulary: 512 rows in float32, 1,024 in bfloat16, 256 in float64."""
_GPU_ROWS = 512
_GPU_LOGITS = 1 << 28
_WIDE_WORDS = 1024
"""Words of the vocabulary in a forward product on a CPU in a wide type: an eighth faster than all of them at once."""
_MIN_FREE = 0.75
"""Share of the buffer that a chunk needs to be worth its pass over the weight; 0 to 4 % faster than 0.5."""
_SPARE = 1.25
"""Size of the buffer of waiting rows, relative to the number that the first chunk predicts."""


def rows_for(hidden: Tensor, head: Head, dtype: torch.dtype | None = None) -> int:
    """How many rows of logits to hold at once, in `dtype` if not in that of `hidden`."""
    if hidden.device.type == "cpu":
        return _CPU_ROW_BYTES // (dtype or hidden.dtype).itemsize
    return max(_GPU_ROWS, _GPU_LOGITS // len(head.weight))


@dataclass
class Workspace:
    """Buffers for (rows, V) products and gradients of `hidden` (N, D), and the sums so far.

    The first `filled` rows of `waiting` wait for the backward product. It is `products` itself if both share a buffer;
    else None until the first chunk shows how many rows will wait. Of all `tokens`, `remaining` are in no chunk yet.
    """

    hidden: Tensor
    head: Head
    logit_ops: LogitOps
    gradients: Gradients
    products: Tensor
    waiting: Tensor | None
    tokens: int
    remaining: int
    filled: int = 0
    places: list[Tensor] = field(default_factory=list)
    factors: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        hidden: Tensor,
        head: Head,
        logit_ops: LogitOps,
        *,
        tokens: int,
        rows: int | None,
        needs_grad: tuple[bool, ...],
    ) -> "Workspace":
        """An empty one for `tokens` rows, `rows` at a time; `needs_grad` as in `Gradients.of`."""
        if rows is None:
            rows = rows_for(hidden, head) // (1 if logit_ops.in_place else 2)
        products = logit_ops.buffer(max(1, min(rows, tokens)), hidden, head)
        waiting = products if logit_ops.in_place else None
        gradients = Gradients.of(hidden, head, needs_grad)
        return cls(hidden, head, logit_ops, gradients, products, waiting, tokens=tokens, remaining=tokens)

    @property
    def free_rows(self) -> int:
        """How many rows the next chunk may have."""
        return len(self.products) - (self.filled if self.logit_ops.in_place else 0)

    def chunks(self) -> Iterator[slice]:
        """All `tokens`, at most `free_rows` at a time."""
        while self.remaining:
            start, n = self.tokens - self.remaining, min(self.free_rows, self.remaining)
            self.remaining -= n
            yield slice(start, start + n)

    def forward_chunk(
        self, places: slice | Tensor, targets: Tensor, entropy: Entropy = None, terms: LossTerms = NLL_ALONE
    ) -> LogitStats:
        """The losses of the n hidden states at `places`, n at most `free_rows`."""
        hidden, low_rank = self.hidden[places], self.head.low_rank
        start = self.filled if self.logit_ops.in_place else 0
        rows = self.products[start : start + len(hidden)]
        words = (
            _WIDE_WORDS
            if hidden.device.type == "cpu" and hidden.dtype == accumulation_dtype(hidden.dtype)
            else len(self.head.weight)
        )
        for weight, products in zip(torch.split(self.head.weight, words), torch.split(rows, words, 1), strict=True):
            torch.mm(hidden, weight.T, out=products)
        if low_rank is not None:
            torch.addmm(rows, low_rank.hidden[places], low_rank.weight.T, out=rows)
        return self.logit_ops.forward(rows, targets, self.head, entropy, terms)

    def accumulate_backward(self, stats: LogitStats, places: Tensor | int, partials: Partials) -> None:
        """Let the rows with a gradient wait for the backward product, and compute it once the buffer is full.

        `partials` are (n,); `places` are the rows' positions in `hidden`, or the first one of them.
        """
        rows_kept = partials.counted.nonzero().squeeze(1)
        out = self._place_for(len(rows_kept), len(partials.nll))
        rows_kept, row_factors = self.logit_ops.backward(stats, rows_kept, partials, self.head, out)
        if row_factors is not None:
            self.factors.append(row_factors)
        self.places.append(rows_kept + places if isinstance(places, int) else places[rows_kept])
        self.filled += len(rows_kept)
        if not self.remaining or self.free_rows < min(self.remaining, _MIN_FREE * len(self.products)):
            self._add_up(last=not self.remaining)

    def _add_up(self, *, last: bool) -> None:
        """Add what waits to `gradients`."""
        if self.waiting is not None and self.filled:
            factors = torch.cat(self.factors) if self.factors else None
            places = torch.cat(self.places)
            self.gradients.add(self.waiting[: self.filled], factors, places, self.hidden, self.head, last=last)
            self.filled = 0
            self.places.clear()
            self.factors.clear()

    def _place_for(self, rows_kept: int, read: int) -> Tensor:
        """The free part of the waiting buffer, for `rows_kept` of the last `read` rows at least."""
        if self.waiting is None or self.filled + rows_kept > len(self.waiting):
            self._add_up(last=False)
            rows = self._will_wait(rows_kept, read)
            if self.waiting is None or len(self.waiting) < rows:
                self.waiting = None  # never two of them
                self.waiting = self.logit_ops.buffer(rows, self.hidden, self.head)
        return self.waiting[self.filled :]

    def _will_wait(self, rows_kept: int, read: int) -> int:
        """How many rows are to wait in a buffer of their own, `rows_kept` of the last `read` ones among them.

        As many as take the memory of the weight's gradient, or two chunks, if so many come. Or all, where their product
        is the gradient in its own type: they take no more than the sum in float32 that it saves. Either way there is
        never more than three times the gradient, as when such a sum becomes narrow.
        """
        width, dtype, needs_grad = self.hidden.shape[1], self.hidden.dtype, self.gradients.main.right_needs_grad
        most, coming = 2 * len(self.products), rows_kept + self.remaining
        if needs_grad and dtype != accumulation_dtype(dtype):
            most = max(most, width)
        if self.gradients.main.right is None:
            predicted = rows_kept + math.ceil(_SPARE * rows_kept / read * self.remaining)
            if predicted <= most:
                return min(predicted, coming)
            if needs_grad and may_stay_narrow(dtype) and coming <= 2 * width:
                return coming
        return min(most, coming)
