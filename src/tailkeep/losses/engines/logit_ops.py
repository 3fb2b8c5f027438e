"""The logit_ops half of the chunked losses: what happens to a chunk's logits between two matrix products.

Rule: rows never mix, so a token's numbers do not depend on the chunk that it fell into.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tailkeep.losses.lm_head import Head
from tailkeep.losses.weighting import Entropy

_CPU_PIECE = 1 << 17
"""Logits at a time for each thread on a CPU: caches hold them between operations, which saves 3 to 8 % of a step."""
_GPU_PIECE = 1 << 24
"""Logits at a time elsewhere, where a copy of them in float32 takes 64 MiB."""
_MOVED = 32
"""Rows that are moved at a time: their copy is all the memory that moving takes."""


@dataclass(frozen=True)
class LogitStats:
    """A chunk of n tokens after the forward pass; all but `rows` are (n,).

    `rows` (n, V) is what `LogitOps.backward` needs again, `target_logits` the logit z of the target, `max_logits`
    the largest one of the row, `correct` whether the target is the first that has it, `sums` the sum of
    exp(z - max_logits), `entropy` that of the prediction, if requested.
    """

    rows: Tensor
    targets: Tensor
    target_logits: Tensor
    max_logits: Tensor
    sums: Tensor
    nll: Tensor
    correct: Tensor
    entropy: Tensor | None


class LogitOps(Protocol):
    """From products hidden @ weight.T to losses, and on to the gradient at those products."""

    in_place: bool
    """Whether `backward` may write to the rows that it reads."""

    def buffer(self, rows: int, hidden: Tensor, head: Head) -> Tensor:
        """A buffer for (rows, V) products or gradients."""
        ...

    def forward(self, rows: Tensor, targets: Tensor, head: Head, entropy: Entropy) -> LogitStats:
        """The losses of the products `rows` (n, V), which may be overwritten."""
        ...

    def backward(
        self, stats: LogitStats, rows_kept: Tensor, factors: Tensor, head: Head, out: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The gradient of sum(factors * nll) at the products of the k rows `kept`, as the first k rows of `out`.

        `factors` are (n,), and not 0 at the rows `kept` (k,), which ascend. `out` has at least k rows, and begins where
        `found.rows` does if both share a buffer.

        Returns:
            `kept` in the order of `out`, and (k,) factors by which its rows have yet to be multiplied, None if by none.
        """
        ...


class InPlaceOps:
    """For rows whose gradients take the place of products, so that one buffer holds both."""

    in_place = True

    def buffer(self, rows: int, hidden: Tensor, head: Head) -> Tensor:
        """See `LogitOps`."""
        return hidden.new_empty((rows, len(head.weight)))


class FullPrecisionOps(InPlaceOps):
    """Eager PyTorch for float32 and float64: products become probabilities, then gradients."""

    def forward(self, rows: Tensor, targets: Tensor, head: Head, entropy: Entropy) -> LogitStats:
        """See `LogitOps`; leaves probabilities times the cap's slopes in `rows`."""
        facts = []
        for piece in _pieces(rows):
            z = _logits(rows[piece], head)
            slopes = _slopes(z, head)
            facts.append(_predict(z, targets[piece], entropy))
            if slopes is not None:
                z.mul_(slopes)
        return _join_stats(rows, targets, facts, entropy)

    def backward(
        self, stats: LogitStats, rows_kept: Tensor, factors: Tensor, head: Head, out: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `LogitOps`."""
        rows_kept, holes = _fewest_moves(rows_kept)
        for piece in torch.split(holes, _MOVED):
            out.index_copy_(0, piece, out.index_select(0, rows_kept[piece]))
        out[: len(rows_kept)].scatter_(1, stats.targets[rows_kept, None], _at_targets(stats, rows_kept, head))
        return rows_kept, factors[rows_kept] * head.scale


class HalfPrecisionOps(InPlaceOps):
    """Eager PyTorch for float16 and bfloat16: products stay, and become gradients of the rows that count.

    What is between is computed in float32, a few rows at a time, and rounded once.
    """

    def forward(self, rows: Tensor, targets: Tensor, head: Head, entropy: Entropy) -> LogitStats:
        """See `LogitOps`; leaves `rows` as they are."""
        facts = [_predict(_logits(rows[piece].float(), head), targets[piece], entropy) for piece in _pieces(rows)]
        return _join_stats(rows, targets, facts, entropy)

    def backward(
        self, stats: LogitStats, rows_kept: Tensor, factors: Tensor, head: Head, out: Tensor
    ) -> tuple[Tensor, None]:
        """See `LogitOps`; the factors are in."""
        # In their order no row is overwritten before it is read: the i-th one kept was never before place i.
        gradients = out[: len(rows_kept)]
        for piece in _pieces(gradients):
            row_ids = rows_kept[piece]
            z = _logits(stats.rows.index_select(0, row_ids).float(), head)
            slopes = _slopes(z, head)
            torch.softmax(z, 1, out=z)
            if slopes is not None:
                z.mul_(slopes)
            z.scatter_(1, stats.targets[row_ids, None], _at_targets(stats, row_ids, head))
            gradients[piece] = z.mul_(factors[row_ids, None] * head.scale)
        return rows_kept, None


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which losses of `dtype` inputs are computed and added up."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def logit_ops_for(dtype: torch.dtype) -> LogitOps:
    """The one for inputs of `dtype`, on any device."""
    return FullPrecisionOps() if dtype == accumulation_dtype(dtype) else HalfPrecisionOps()


def _pieces(rows: Tensor) -> Iterator[slice]:
    """All of `rows` (n, V), a few at a time."""
    if rows.device.type == "cpu":
        # Each thread takes whole rows.
        size = torch.get_num_threads() * max(1, _CPU_PIECE // rows.shape[1])
    else:
        size = max(1, _GPU_PIECE // rows.shape[1])
    return (slice(start, start + size) for start in range(0, len(rows), size))


def _logits(products: Tensor, head: Head) -> Tensor:
    """Turn products into logits, in place."""
    if head.bias is not None:
        products.add_(head.bias)
    if head.scale != 1:
        products.mul_(head.scale)
    if head.softcap is not None:
        products.div_(head.softcap).tanh_().mul_(head.softcap)
    return products


def _slopes(logits: Tensor, head: Head) -> Tensor | None:
    """d z / d (what the cap was put on), 1 - (z / softcap)^2; None without a cap."""
    return None if head.softcap is None else 1 - (logits / head.softcap).square_()


def _predict(logits: Tensor, targets: Tensor, entropy: Entropy) -> tuple[Tensor, ...]:
    """Turn logits (n, V) into probabilities, in place; (n,) facts of `LogitStats`, and the entropy."""
    target_logits, max_logits = logits.gather(1, targets[:, None]).squeeze(1), logits.amax(1)
    correct = _correct(logits, targets, target_logits >= max_logits)
    torch.softmax(logits, 1, out=logits)
    # The largest probability is exp(0) / sum.
    facts = target_logits, max_logits, correct, logits.amax(1).reciprocal_()
    return facts if entropy is None else (*facts, _entropy(logits, entropy))


def _correct(logits: Tensor, targets: Tensor, largest: Tensor) -> Tensor:
    """Whether argmax gives the target, of which `largest` says that no logit is larger."""
    if logits.device.type != "cpu":
        return logits.argmax(1) == targets
    # Here argmax takes ten times as long as amax, so only rows that may be a tie pay for it.
    rows = largest.nonzero().squeeze(1)
    return largest.index_copy_(0, rows, logits[rows].argmax(1) == targets[rows])


def _entropy(probabilities: Tensor, entropy: Entropy) -> Tensor:
    """(n,) entropy in nats of each row, or of its `entropy` largest numbers made to sum to 1."""
    if entropy is not None and entropy != "full":
        probabilities = probabilities.topk(min(entropy, probabilities.shape[1])).values
        probabilities /= probabilities.sum(1, keepdim=True)
    spread: Tensor = torch.special.entr(probabilities).sum(1)
    return spread


def _join_stats(rows: Tensor, targets: Tensor, facts: list[tuple[Tensor, ...]], entropy: Entropy) -> LogitStats:
    """The chunk whose pieces gave `facts`."""
    target_logits, max_logits, correct, sums, *spread = (torch.cat(parts) for parts in zip(*facts, strict=True))
    nll = sums.log() + (max_logits - target_logits)
    entropies = None if entropy is None else spread[0]
    return LogitStats(rows, targets, target_logits, max_logits, sums, nll, correct, entropies)


def _at_targets(stats: LogitStats, rows_kept: Tensor, head: Head) -> Tensor:
    """(k, 1) p - 1 times the cap's slope, at the targets of the rows `kept`."""
    slopes = _slopes(stats.target_logits[rows_kept], head)
    gradient = torch.expm1(-stats.nll[rows_kept])
    return (gradient if slopes is None else gradient * slopes)[:, None]


def _fewest_moves(rows_kept: Tensor) -> tuple[Tensor, Tensor]:
    """An order of the k rows `kept` in which most stay where they are, and the places below k that others come to.

    With most rows kept, moving each one forward in its order took a twentieth of a step's time.
    """
    staying = rows_kept[rows_kept < len(rows_kept)]
    holes = torch.ones_like(rows_kept, dtype=torch.bool).index_fill_(0, staying, False).nonzero().squeeze(1)
    places = torch.arange(len(rows_kept), device=rows_kept.device)
    return places.index_copy_(0, holes, rows_kept[len(staying) :]), holes
