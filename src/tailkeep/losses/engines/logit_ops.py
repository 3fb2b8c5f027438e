"""The logit operations of the chunked losses: what happens to a chunk's logits between two matrix products.

Rule: rows never mix, so a token's numbers do not depend on the chunk that it fell into.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from tailkeep.losses.lm_head import Head
from tailkeep.losses.terms import LossTerms
from tailkeep.losses.weighting import Entropy

_CPU_PIECE = 1 << 17
"""Logits at a time for each thread on a CPU: caches hold them between operations, which saves 3 to 8 % of a step."""
_GPU_PIECE = 1 << 24
"""Logits at a time elsewhere, where a copy of them in float32 takes 64 MiB."""
_MOVED = 32
"""Rows that are moved at a time: their copy is all the memory that moving takes."""


@dataclass(frozen=True)
class Partials:
    """The derivatives of N token losses by their three numbers: NLL, log-sum-exp, mean logit; (N,) each, None is 0.

        d loss / d z[c] = nll * (p[c] - [c = target]) + lse * p[c] + mean_logit * w[c] / V

    where w are the class weights of `LossTerms`, or 1.
    """

    nll: Tensor
    lse: Tensor | None = None
    mean_logit: Tensor | None = None

    @property
    def counted(self) -> Tensor:
        """(N,) boolean: which tokens have a gradient."""
        counted = self.nll != 0
        for more in (self.lse, self.mean_logit):
            counted = counted if more is None else counted | (more != 0)
        return counted

    def times(self, factor: Tensor) -> "Partials":
        """All of them times `factor`, a scalar or (N,)."""
        return Partials(*(None if part is None else part * factor for part in self.parts()))  # type: ignore[arg-type]

    def plus_lse(self, more: Tensor | None) -> "Partials":
        """The same with `more` (N,) added to the derivative by the log-sum-exp."""
        if more is None:
            return self
        return Partials(self.nll, more if self.lse is None else self.lse + more, self.mean_logit)

    def parts(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The three."""
        return self.nll, self.lse, self.mean_logit

    def __getitem__(self, rows: Tensor | slice) -> "Partials":
        return Partials(*(None if part is None else part[rows] for part in self.parts()))  # type: ignore[arg-type]


@dataclass(frozen=True)
class LogitStats:
    """A chunk of n tokens after the forward pass; all but `rows` are (n,).

    `rows` (n, V) is what `LogitOps.backward` needs again, `target_logits` the logit z of the target, `max_logits`
    the largest one of the row, `correct` whether the target is the first that has it, `sums` the sum of
    exp(z - max_logits), `entropy` that of the prediction, if requested, `mean_logits` what `terms` make of the logits.
    """

    rows: Tensor
    targets: Tensor
    target_logits: Tensor
    max_logits: Tensor
    sums: Tensor
    nll: Tensor
    correct: Tensor
    entropy: Tensor | None
    mean_logits: Tensor | None
    terms: LossTerms

    @property
    def lse(self) -> Tensor:
        """(n,) logsumexp(z)."""
        return self.sums.log() + self.max_logits


class LogitOps(Protocol):
    """From products hidden @ weight.T to losses, and on to the gradient at those products."""

    in_place: bool
    """Whether `backward` may write to the rows that it reads."""

    def buffer(self, rows: int, hidden: Tensor, head: Head) -> Tensor:
        """A buffer for (rows, V) products or gradients."""
        ...

    def forward(self, rows: Tensor, targets: Tensor, head: Head, entropy: Entropy, terms: LossTerms) -> LogitStats:
        """The losses of the products `rows` (n, V), which may be overwritten."""
        ...

    def backward(
        self, stats: LogitStats, rows_kept: Tensor, partials: Partials, head: Head, out: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The gradient of losses with `partials` (n,) at the products of k rows, as the first k rows of `out`.

        `rows_kept` (k,), which ascend, are those with a gradient. `out` has at least k rows, and begins where
        `stats.rows` does if both share a buffer.

        Returns:
            `rows_kept` in the order of `out`, and (k,) factors by which its rows have yet to be multiplied, None if by
            none.
        """
        ...


class InPlaceOps:
    """For rows whose gradients take the place of products, so that one buffer holds both."""

    in_place = True

    def buffer(self, rows: int, hidden: Tensor, head: Head) -> Tensor:
        """See `LogitOps`."""
        return hidden.new_empty((rows, len(head.weight)))


class FullPrecisionOps(InPlaceOps):
    """Eager PyTorch for float32 and float64: products become probabilities, then gradients of the NLL alone."""

    def forward(self, rows: Tensor, targets: Tensor, head: Head, entropy: Entropy, terms: LossTerms) -> LogitStats:
        """See `LogitOps`; leaves probabilities times the cap's slopes in `rows`."""
        facts = []
        for piece in _pieces(rows):
            z = _logits(rows[piece], head)
            slopes = _slopes(z, head)
            facts.append(_predict(z, targets[piece], entropy, terms))
            if slopes is not None:
                z.mul_(slopes)
        return _join_stats(rows, targets, facts, terms)

    def backward(
        self, stats: LogitStats, rows_kept: Tensor, partials: Partials, head: Head, out: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `LogitOps`."""
        assert partials.lse is None, "other terms than the NLL need the logits themselves: StoredLogitOps"
        rows_kept, holes = _fewest_moves(rows_kept)
        for piece in torch.split(holes, _MOVED):
            out.index_copy_(0, piece, out.index_select(0, rows_kept[piece]))
        out[: len(rows_kept)].scatter_(1, stats.targets[rows_kept, None], _at_targets(stats, rows_kept, head))
        return rows_kept, partials.nll[rows_kept] * head.scale


class StoredLogitOps(InPlaceOps):
    """Eager PyTorch for float16 and bfloat16, and for losses of more than the NLL: products stay, and become gradients.

    What is between is computed in at least float32, a few rows at a time, and rounded once. Rows that count take a
    second softmax.
    """

    def forward(self, rows: Tensor, targets: Tensor, head: Head, entropy: Entropy, terms: LossTerms) -> LogitStats:
        """See `LogitOps`; leaves `rows` as they are."""
        wide = accumulation_dtype(rows.dtype)
        facts = [
            _predict(_logits(rows[piece].to(wide, copy=True), head), targets[piece], entropy, terms)
            for piece in _pieces(rows)
        ]
        return _join_stats(rows, targets, facts, terms)

    def backward(
        self, stats: LogitStats, rows_kept: Tensor, partials: Partials, head: Head, out: Tensor
    ) -> tuple[Tensor, None]:
        """See `LogitOps`; the factors are in."""
        # In their order no row is overwritten before it is read: the i-th one kept was never before place i.
        gradients = out[: len(rows_kept)]
        for piece in _pieces(gradients):
            row_ids = rows_kept[piece]
            z = _logits(stats.rows.index_select(0, row_ids).to(accumulation_dtype(out.dtype)), head)
            slopes = _slopes(z, head)
            torch.softmax(z, 1, out=z)
            if partials.lse is not None:
                gradients[piece] = _all_terms(z, slopes, stats, row_ids, partials[row_ids]).mul_(head.scale)
                continue
            if slopes is not None:
                z.mul_(slopes)
            z.scatter_(1, stats.targets[row_ids, None], _at_targets(stats, row_ids, head))
            gradients[piece] = z.mul_(partials.nll[row_ids, None] * head.scale)
        return rows_kept, None


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which losses of `dtype` inputs are computed and added up."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def logit_ops_for(dtype: torch.dtype, *, nll_alone: bool = True) -> LogitOps:
    """The one for inputs of `dtype`, on any device; `nll_alone` as in `LossTerms.is_plain`."""
    return FullPrecisionOps() if nll_alone and dtype == accumulation_dtype(dtype) else StoredLogitOps()


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


_Facts: TypeAlias = tuple[tuple[Tensor, ...], Tensor | None, Tensor | None]
"""(n,) each: logit of the target, largest logit, correct and sum; entropy; mean logit, as in `LogitStats`."""


def _predict(logits: Tensor, targets: Tensor, entropy: Entropy, terms: LossTerms) -> _Facts:
    """Turn logits (n, V) into probabilities, in place."""
    mean_logits = terms.mean_logits(logits)
    target_logits, max_logits = logits.gather(1, targets[:, None]).squeeze(1), logits.amax(1)
    correct = _correct(logits, targets, target_logits >= max_logits)
    torch.softmax(logits, 1, out=logits)
    # The largest probability is exp(0) / sum.
    sums = logits.amax(1).reciprocal_()
    return (target_logits, max_logits, correct, sums), _entropy(logits, entropy), mean_logits


def _correct(logits: Tensor, targets: Tensor, largest: Tensor) -> Tensor:
    """Whether argmax gives the target, of which `largest` says that no logit is larger."""
    if logits.device.type != "cpu":
        return logits.argmax(1) == targets
    # Here argmax takes ten times as long as amax, so only rows that may be a tie pay for it.
    rows = largest.nonzero().squeeze(1)
    return largest.index_copy_(0, rows, logits[rows].argmax(1) == targets[rows])


def _entropy(probabilities: Tensor, entropy: Entropy) -> Tensor | None:
    """(n,) entropy in nats of each row, or of its `entropy` largest numbers made to sum to 1."""
    if entropy is None:
        return None
    if entropy != "full":
        probabilities = probabilities.topk(min(entropy, probabilities.shape[1])).values
        probabilities /= probabilities.sum(1, keepdim=True)
    spread: Tensor = torch.special.entr(probabilities).sum(1)
    return spread


def _join_stats(rows: Tensor, targets: Tensor, facts: list[_Facts], terms: LossTerms) -> LogitStats:
    """The chunk whose pieces gave `facts`."""
    always, entropies, mean_logits = zip(*facts, strict=True)
    target_logits, max_logits, correct, sums = (torch.cat(parts) for parts in zip(*always, strict=True))
    nll = sums.log() + (max_logits - target_logits)
    entropy, mean_logit = _joined(entropies), _joined(mean_logits)
    return LogitStats(rows, targets, target_logits, max_logits, sums, nll, correct, entropy, mean_logit, terms)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The pieces in one, if they were requested."""
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _at_targets(stats: LogitStats, rows_kept: Tensor, head: Head) -> Tensor:
    """(k, 1) p - 1 times the cap's slope, at the targets of the rows `rows_kept`."""
    slopes = _slopes(stats.target_logits[rows_kept], head)
    gradient = torch.expm1(-stats.nll[rows_kept])
    return (gradient if slopes is None else gradient * slopes)[:, None]


def _all_terms(p: Tensor, slopes: Tensor | None, stats: LogitStats, row_ids: Tensor, partials: Partials) -> Tensor:
    """Turn probabilities (k, V) of the rows `row_ids` into the gradient of `Partials`, times the cap's slopes."""
    nll, lse, mean_logit = partials.parts()
    assert nll is not None
    assert lse is not None
    at_targets = nll * torch.expm1(-stats.nll[row_ids]) + lse * torch.exp(-stats.nll[row_ids])
    gradient = p.mul_((nll + lse)[:, None]).scatter_(1, stats.targets[row_ids, None], at_targets[:, None])
    if mean_logit is not None:
        share, weights = (mean_logit / p.shape[1])[:, None], stats.terms.class_weight
        gradient = gradient.add_(share) if weights is None else gradient.addcmul_(share, weights)
    return gradient if slopes is None else gradient.mul_(slopes)


def _fewest_moves(rows_kept: Tensor) -> tuple[Tensor, Tensor]:
    """An order of the k `rows_kept` in which most stay where they are, and the places below k that others come to.

    With most rows kept, moving each one forward in its order took a twentieth of a step's time.
    """
    staying = rows_kept[rows_kept < len(rows_kept)]
    holes = torch.ones_like(rows_kept, dtype=torch.bool).index_fill_(0, staying, False).nonzero().squeeze(1)
    places = torch.arange(len(rows_kept), device=rows_kept.device)
    return places.index_copy_(0, holes, rows_kept[len(staying) :]), holes
