"""Losses from hidden states in chunks of rows: (N, V) is never in memory, and tokens without weight cost no backward.

Rule: a chunk's logits are computed once. Where every upstream gradient is the same, as under a sum or a mean, the
forward pass also computes the gradients, of the tokens that count alone: with the kept share k a step takes
(2 + 4k) / 6 of cross-entropy's arithmetic. Where they differ, the backward pass computes those rows' logits again.
Gradients that are to be differentiated once more (`create_graph`) come from all logits, by autograd.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.engines.base import TokenLosses
from tailkeep.losses.engines.buffers import Workspace
from tailkeep.losses.engines.logit_ops import LogitOps, accumulation_dtype, logit_ops_for
from tailkeep.losses.engines.reference import all_logits, entropy_of, times
from tailkeep.losses.lm_head import Head
from tailkeep.losses.weighting import Entropy, Weighting


class Chunked:
    """Any device. `rows` is the number of tokens in a chunk; measured defaults if not given."""

    def __init__(self, rows: int | None = None, logit_ops: LogitOps | None = None) -> None:
        self.rows = rows
        self.logit_ops = logit_ops

    def token_nll(
        self, hidden: Tensor, head: Head, targets: Tensor, *, entropy: Entropy
    ) -> tuple[Tensor, Tensor | None]:
        """See `Engine`."""
        inputs = (*_inputs(hidden, head), targets, head, entropy, self)
        nll, spread = _TokenNLL.apply(*inputs)  # type: ignore[no-untyped-call]
        return nll, None if entropy is None else spread

    def weighted(
        self, hidden: Tensor, head: Head, targets: Tensor, weighting: Weighting, *, expected: Tensor | None = None
    ) -> TokenLosses:
        """See `Engine`."""
        inputs = (*_inputs(hidden, head), targets, head, weighting, self, expected)
        return TokenLosses(*_Weighted.apply(*inputs))  # type: ignore[no-untyped-call]

    def workspace(
        self,
        hidden: Tensor,
        head: Head,
        *,
        tokens: int | None = None,
        needs_grad: tuple[bool, ...] = (False, False, False),
    ) -> Workspace:
        """Buffers for chunks of `tokens` rows of `hidden` (N, D), by default all of them, and for the gradients."""
        logit_ops = logit_ops_for(hidden.dtype) if self.logit_ops is None else self.logit_ops
        tokens = len(hidden) if tokens is None else tokens
        return Workspace.of(hidden, head, logit_ops, tokens=tokens, rows=self.rows, needs_grad=needs_grad)


class _TokenNLL(torch.autograd.Function):
    """(N,) NLL and entropy; the backward pass recomputes the logits of rows whose upstream gradient is not 0."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        head: Head,
        entropy: Entropy,
        engine: Chunked,
    ) -> tuple[Tensor, Tensor]:
        work = engine.workspace(hidden, head)
        nll, spread = _numbers(hidden), _numbers(hidden)
        for chunk in work.chunks():
            stats = work.forward_chunk(hidden[chunk], targets[chunk], entropy)
            nll[chunk] = stats.nll
            if stats.entropy is not None:
                spread[chunk] = stats.entropy
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.head, ctx.engine = head, engine
        ctx.mark_non_differentiable(spread)
        return nll, spread

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Any, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        head = replace(ctx.head, weight=weight, bias=bias)
        if torch.is_grad_enabled():
            gradients = _differentiable(hidden, head, targets, upstream, ctx.needs_input_grad, lambda nll, _: nll)
            return (*gradients, None, None, None, None)
        gradients = _recomputed(hidden, head, targets, upstream, ctx.needs_input_grad, ctx.engine)
        return (*gradients, None, None, None, None)


class _Weighted(torch.autograd.Function):
    """Weighted losses whose gradients are ready when the forward pass ends, for the `expected` upstream gradient.

    A pass over a gradient of the size of the vocabulary is saved where it is the one that comes. In float16 1 is
    expected: probabilities times a small number would leave its range.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        head: Head,
        weighting: Weighting,
        engine: Chunked,
        expected: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if expected is None or hidden.dtype == torch.float16:
            expected = torch.ones((), dtype=accumulation_dtype(hidden.dtype), device=hidden.device)
        work = engine.workspace(hidden, head, needs_grad=ctx.needs_input_grad)
        losses, nll, weights, factors = (_numbers(hidden) for _ in range(4))
        correct = torch.zeros_like(targets, dtype=torch.bool)
        for chunk in work.chunks():
            stats = work.forward_chunk(hidden[chunk], targets[chunk], weighting.entropy)
            nll[chunk], correct[chunk] = stats.nll, stats.correct
            if work.gradients.needs_grad:
                losses[chunk], weights[chunk], factors[chunk] = _weigh(weighting, stats.nll, stats.entropy)
                work.accumulate_backward(stats, chunk.start, factors[chunk] * expected)
            else:
                weights[chunk] = weighting.factors(stats.nll, stats.entropy)
                losses[chunk] = times(stats.nll, weights[chunk])
        ctx.save_for_backward(hidden, weight, bias, targets, factors, expected, weights)
        ctx.head, ctx.engine, ctx.ready, ctx.weighting = head, engine, work.gradients, weighting
        ctx.mark_non_differentiable(nll, weights, correct)
        return losses, nll, weights, correct

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Any, ...]:
        hidden, weight, bias, targets, factors, expected, weights = ctx.saved_tensors
        if torch.is_grad_enabled():
            head = replace(ctx.head, weight=weight, bias=bias)
            losses = _weighted_again(ctx.weighting, factors, weights)
            gradients = _differentiable(hidden, head, targets, upstream, ctx.needs_input_grad, losses)
            return (*gradients, None, None, None, None, None)
        # Used up by one backward pass; a second one over a retained graph recomputes.
        ready, ctx.ready = ctx.ready, None
        if ready is not None:
            alike, factor = _alike(upstream, factors, expected)
            if alike:
                return (*ready.finish(weight, factor), None, None, None, None, None)
            del ready
        head = replace(ctx.head, weight=weight, bias=bias)
        gradients = _recomputed(hidden, head, targets, upstream * factors, ctx.needs_input_grad, ctx.engine)
        return (*gradients, None, None, None, None, None)


def _inputs(hidden: Tensor, head: Head) -> tuple[Tensor, Tensor, Tensor | None]:
    """The inputs of an autograd function, detached under no_grad, where their gradients would be computed in vain."""
    if torch.is_grad_enabled():
        return hidden, head.weight, head.bias
    return hidden.detach(), head.weight.detach(), None if head.bias is None else head.bias.detach()


def _numbers(hidden: Tensor) -> Tensor:
    """Zeros, one number per token."""
    return hidden.new_zeros(len(hidden), dtype=accumulation_dtype(hidden.dtype))


def _weigh(weighting: Weighting, nll: Tensor, entropy: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted losses, weights, and d loss / d nll, which is the weight unless the weight itself has a gradient."""
    # What is saved here is used here: the hooks of a checkpoint around the loss would recompute all of it.
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_itself, _itself):
        nll = nll.detach().requires_grad_()
        weights = weighting.factors(nll, entropy)
        losses = times(nll, weights)
        (factors,) = torch.autograd.grad(losses.sum(), nll)
    return losses.detach(), weights.detach(), factors


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _alike(upstream: Tensor, factors: Tensor, expected: Tensor) -> tuple[bool, Tensor | None]:
    """Whether all tokens with a factor have one upstream gradient; and that over the `expected` one, None if it is it.

    The device is waited for once.
    """
    if len(upstream) == 0:
        return True, None
    counted = factors != 0
    low = torch.where(counted, upstream, torch.inf).amin()
    high = torch.where(counted, upstream, -torch.inf).amax()
    factor = high / expected
    none, same, came = torch.stack([low > high, (low == high) & factor.isfinite(), high == expected]).tolist()
    return none or same, None if none or came else factor


def _recomputed(
    hidden: Tensor, head: Head, targets: Tensor, factors: Tensor, needs_grad: tuple[bool, ...], engine: Chunked
) -> tuple[Tensor | None, ...]:
    """Gradients of sum(factors * nll), from logits computed again for the rows with a factor."""
    counted = factors.nonzero().squeeze(1)
    work = engine.workspace(hidden, head, tokens=len(counted), needs_grad=needs_grad)
    for chunk in work.chunks():
        places = counted[chunk]
        work.accumulate_backward(work.forward_chunk(hidden[places], targets[places]), places, factors[places])
    return work.gradients.finish(head.weight)


def _differentiable(
    hidden: Tensor,
    head: Head,
    targets: Tensor,
    upstream: Tensor,
    needs_grad: tuple[bool, ...],
    losses: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor | None, ...]:
    """Gradients of sum(upstream * losses(nll, logits)) that have a graph themselves; holds (N, V) logits.

    The inputs are copied as views, so that a way from one to another, such as tied embeddings, has no part.
    """
    hidden, weight = hidden.view_as(hidden), head.weight.view_as(head.weight)
    bias = None if head.bias is None else head.bias.view_as(head.bias)
    logits = all_logits(hidden, replace(head, weight=weight, bias=bias))
    total = losses(F.cross_entropy(logits, targets, reduction="none"), logits)
    pairs = zip((hidden, weight, bias), needs_grad, strict=False)
    inputs = [tensor for tensor, needs in pairs if needs and tensor is not None]
    gradients = iter(torch.autograd.grad(total, inputs, upstream, create_graph=True))
    return tuple(next(gradients) if needs else None for needs in needs_grad[:3])


def _weighted_again(weighting: Weighting, factors: Tensor, weights: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The losses of the forward pass as a function of NLL and logits.

    Raises:
        ConfigError: a weighting whose state has moved on, and through whose weights a gradient passed.
    """
    if torch.equal(factors, weights):  # the weights are constants to the gradient
        return lambda nll, _: times(nll, weights)
    if weighting.state is not None:
        raise ConfigError(
            f"the loss {weighting.name!r} has a state and a gradient through its weights, which create_graph would "
            "compute again after the state has moved on. Detach the weights, or compute the loss on the logits."
        )
    return lambda nll, logits: times(nll, weighting.factors(nll, entropy_of(logits.detach(), weighting.entropy)))
