"""The buffers of logits that are used again for every chunk.

Rule: rows that count wait for others, so that each backward product has enough rows to be worth its pass over the
vocabulary. They wait at the front of the products' own buffer, or in another where products cannot be overwritten.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tailkeep.losses.engines.elementwise import Elementwise, Found, wide
from tailkeep.losses.engines.gradients import Gradients, may_stay_narrow
from tailkeep.losses.head import Head
from tailkeep.losses.weighting import Entropy

_CPU_ROW_BYTES = 2048
"""Bytes of a buffer for each word of the vocabulary: 512 rows in float32, 1,024 in bfloat16, 256 in float64."""
_GPU_ROWS = 512
_GPU_LOGITS = 1 << 28
_WIDE_WORDS = 1024
"""Words of the vocabulary in a forward product on a CPU in a wide type: an eighth faster than all of them at once."""
_ROOM = 0.75
"""Share of the buffer that a chunk needs to be worth its pass over the weight; 0 to 4 % faster than .5."""
_SPARE = 1.25
"""Room for waiting rows, to what the first chunk foretells."""


def rows_for(hidden: Tensor, head: Head, dtype: torch.dtype | None = None) -> int:
    """How many rows of logits to hold at once, in `dtype` if not in that of `hidden`."""
    if hidden.device.type == "cpu":
        return _CPU_ROW_BYTES // (dtype or hidden.dtype).itemsize
    return max(_GPU_ROWS, _GPU_LOGITS // len(head.weight))


@dataclass
class Workspace:
    """Room for (rows, V) products and gradients of `hidden` (N, D), and what has come of them.

    The first `filled` rows of `waiting` wait for the backward product. It is `products` itself if both share a buffer;
    else None until the first chunk shows how many rows will wait. Of all `tokens`, `remaining` are in no chunk yet.
    """

    hidden: Tensor
    head: Head
    elementwise: Elementwise
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
        elementwise: Elementwise,
        *,
        tokens: int,
        rows: int | None,
        wanted: tuple[bool, ...],
    ) -> "Workspace":
        """An empty one for `tokens` rows, `rows` at a time, and the gradients of (hidden, weight, bias) if `wanted`."""
        if rows is None:
            rows = rows_for(hidden, head) // (1 if elementwise.in_place else 2)
        products = elementwise.buffer(max(1, min(rows, tokens)), hidden, head)
        waiting = products if elementwise.in_place else None
        gradients = Gradients.of(hidden, head, wanted)
        return cls(hidden, head, elementwise, gradients, products, waiting, tokens=tokens, remaining=tokens)

    @property
    def room(self) -> int:
        """How many rows the next chunk may have."""
        return len(self.products) - (self.filled if self.elementwise.in_place else 0)

    def chunks(self) -> Iterator[slice]:
        """All `tokens`, as many at a time as there is room for."""
        while self.remaining:
            start, n = self.tokens - self.remaining, min(self.room, self.remaining)
            self.remaining -= n
            yield slice(start, start + n)

    def read(self, hidden: Tensor, targets: Tensor, entropy: Entropy = None) -> Found:
        """The losses of `hidden` (n, D), n at most `room`."""
        start = self.filled if self.elementwise.in_place else 0
        rows = self.products[start : start + len(hidden)]
        words = (
            _WIDE_WORDS if hidden.device.type == "cpu" and hidden.dtype == wide(hidden.dtype) else len(self.head.weight)
        )
        for weight, products in zip(torch.split(self.head.weight, words), torch.split(rows, words, 1), strict=True):
            torch.mm(hidden, weight.T, out=products)
        return self.elementwise.read(rows, targets, self.head, entropy)

    def keep(self, found: Found, places: Tensor | int, factors: Tensor) -> None:
        """Let the rows with a factor wait for the backward product, and compute it once there is no room for more.

        `factors` are (n,); `places` are the rows' positions in `hidden`, or the first one of them.
        """
        kept = factors.nonzero().squeeze(1)
        out = self._place_for(len(kept), len(factors))
        kept, left = self.elementwise.keep(found, kept, factors, self.head, out)
        if left is not None:
            self.factors.append(left)
        self.places.append(kept + places if isinstance(places, int) else places[kept])
        self.filled += len(kept)
        if not self.remaining or self.room < min(self.remaining, _ROOM * len(self.products)):
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

    def _place_for(self, kept: int, read: int) -> Tensor:
        """Where the rows `kept` of the last `read` ones are to wait, at least so many."""
        if self.waiting is None or self.filled + kept > len(self.waiting):
            self._add_up(last=False)
            rows = self._will_wait(kept, read)
            if self.waiting is None or len(self.waiting) < rows:
                self.waiting = None  # never two of them
                self.waiting = self.elementwise.buffer(rows, self.hidden, self.head)
        return self.waiting[self.filled :]

    def _will_wait(self, kept: int, read: int) -> int:
        """How many rows are to wait in a buffer of their own, those `kept` of the last `read` ones among them.

        As many as take the memory of the weight's gradient, or two chunks, if so many come. Or all, where their product
        is the gradient in its own type: they take no more than the sum in float32 that it saves. Either way there is
        never more than three times the gradient, as when such a sum becomes narrow.
        """
        width, dtype, wanted = self.hidden.shape[1], self.hidden.dtype, self.gradients.weight_wanted
        most, coming = 2 * len(self.products), kept + self.remaining
        if wanted and dtype != wide(dtype):
            most = max(most, width)
        if self.gradients.weight is None:
            foreseen = kept + math.ceil(_SPARE * kept / read * self.remaining)
            if foreseen <= most:
                return min(foreseen, coming)
            if wanted and may_stay_narrow(dtype) and coming <= 2 * width:
                return coming
        return min(most, coming)
