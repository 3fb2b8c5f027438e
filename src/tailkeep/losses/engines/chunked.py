"""Losses from hidden states in chunks of rows: (N, V) is never in memory, and tokens without weight cost no backward.

Rule: a chunk's logits are computed once. Where every upstream gradient is the same, as under a sum or a mean, the
forward pass also computes the gradients, of the tokens that count alone: with the kept share k a step takes
(2 + 4k) / 6 of cross-entropy's arithmetic. Where they differ, the backward pass computes those rows' logits again.
Gradients that are to be differentiated once more (`create_graph`) come from all logits, by autograd.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.checks import check_not_batched
from tailkeep.losses.engines.buffers import Workspace
from tailkeep.losses.engines.logit_ops import LogitOps, Partials, logit_ops_for
from tailkeep.losses.engines.passes import facts_pass, numbers, recomputed, weighted_pass
from tailkeep.losses.engines.reference import TokenLosses, all_logits, entropy_of, times
from tailkeep.losses.lm_head import Head
from tailkeep.losses.terms import NLL_ALONE, LossTerms
from tailkeep.losses.weighting import Entropy, Weighting


class Chunked:
    """Any device. `rows` is the number of tokens in a chunk; measured defaults if not given."""

    def __init__(self, rows: int | None = None, logit_ops: LogitOps | None = None) -> None:
        self.rows = rows
        self.logit_ops = logit_ops

    def token_nll(
        self, hidden: Tensor, head: Head, targets: Tensor, *, entropy: Entropy
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `Engine`."""
        hidden, *tensors = _inputs(hidden, head)
        nll, lse, spread = _TokenNLL.apply(hidden, targets, head, entropy, self, *tensors)  # type: ignore[no-untyped-call]
        return nll, lse, None if entropy is None else spread

    def weighted(
        self,
        hidden: Tensor,
        head: Head,
        targets: Tensor,
        weighting: Weighting,
        *,
        terms: LossTerms = NLL_ALONE,
        expected: Tensor | None = None,
    ) -> TokenLosses:
        """See `Engine`."""
        hidden, *tensors = _inputs(hidden, head)
        inputs = (hidden, targets, head, weighting, terms, self, expected, *tensors)
        return TokenLosses(*_Weighted.apply(*inputs))  # type: ignore[no-untyped-call]

    def workspace(
        self,
        hidden: Tensor,
        head: Head,
        *,
        tokens: int | None = None,
        needs_grad: tuple[bool, ...] = (),
        nll_alone: bool = True,
    ) -> Workspace:
        """Buffers for chunks of `tokens` rows of `hidden` (N, D), by default all of them, and for the gradients."""
        ops = logit_ops_for(hidden.dtype, nll_alone=nll_alone) if self.logit_ops is None else self.logit_ops
        tokens = len(hidden) if tokens is None else tokens
        return Workspace.of(hidden, head, ops, tokens=tokens, rows=self.rows, needs_grad=needs_grad)


class _TokenNLL(torch.autograd.Function):
    """(N,) NLL, log-sum-exp and entropy; the backward pass recomputes the logits of rows with an upstream gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        targets: Tensor,
        head: Head,
        entropy: Entropy,
        engine: Chunked,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        facts = facts_pass(engine.workspace, hidden, head, targets, entropy=entropy, terms=NLL_ALONE)
        ctx.save_for_backward(hidden, targets, *tensors)
        ctx.head, ctx.engine = head, engine
        ctx.mark_non_differentiable(facts.entropy)
        ctx.set_materialize_grads(False)
        return facts.nll, facts.lse, facts.entropy

    @staticmethod
    def backward(ctx: Any, to_nll: Tensor | None, to_lse: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
        hidden, targets, *tensors = ctx.saved_tensors
        head, needs_grad = ctx.head.with_tensors(*tensors), _needs_grad(ctx)
        check_not_batched(to_nll, to_lse)
        if torch.is_grad_enabled():

            def total(nll: Tensor, logits: Tensor) -> Tensor:
                return _dot(to_nll, nll) + _dot(to_lse, logits.logsumexp(-1))

            gradients = _differentiable(hidden, head, targets, needs_grad, total)
        else:
            partials = Partials(numbers(hidden) if to_nll is None else to_nll, to_lse)
            gradients = recomputed(
                ctx.engine.workspace, hidden, head, targets, terms=NLL_ALONE, partials=partials, needs_grad=needs_grad
            )
        return _in_place(gradients, 4)


class _Weighted(torch.autograd.Function):
    """Weighted losses whose gradients are ready when the forward pass ends, for the `expected` upstream gradient.

    A pass over a gradient of the size of the vocabulary is saved where it is the one that comes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        targets: Tensor,
        head: Head,
        weighting: Weighting,
        terms: LossTerms,
        engine: Chunked,
        expected: Tensor | None,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        done = weighted_pass(
            engine.workspace,
            hidden,
            head,
            targets,
            weighting,
            terms=terms,
            expected=expected,
            needs_grad=_needs_grad(ctx),
        )
        ctx.save_for_backward(hidden, targets, done.expected, done.weights, *tensors, *done.partials.parts())
        ctx.head, ctx.engine, ctx.ready, ctx.weighting, ctx.terms = head, engine, done.gradients, weighting, terms
        ctx.weights_are_constant = done.weights_are_constant
        ctx.mark_non_differentiable(done.facts.nll, done.weights, done.facts.correct)
        ctx.set_materialize_grads(False)
        return done.losses, done.facts.lse, done.facts.nll, done.weights, done.facts.correct

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, to_lse: Tensor | None, *_: Tensor | None) -> tuple[Any, ...]:
        hidden, targets, expected, weights, *saved = ctx.saved_tensors
        head, partials = ctx.head.with_tensors(*saved[:_TENSORS]), Partials(*saved[_TENSORS:])
        needs_grad = _needs_grad(ctx)
        check_not_batched(upstream, to_lse)
        if torch.is_grad_enabled():
            losses = _weighted_again(ctx.weighting, ctx.terms, targets, weights if ctx.weights_are_constant else None)

            def total(nll: Tensor, logits: Tensor) -> Tensor:
                return _dot(upstream, losses(nll, logits)) + _dot(to_lse, logits.logsumexp(-1))

            return _in_place(_differentiable(hidden, head, targets, needs_grad, total), 6)
        # Used up by one backward pass; a second one over a retained graph recomputes.
        ready, ctx.ready = ctx.ready, None
        if ready is not None and upstream is not None and to_lse is None:
            alike, factor = _alike(upstream, partials.counted, expected)
            if alike:
                return _in_place(ready.finish(head, factor), 6)
        del ready
        partials = partials.times(torch.zeros_like(weights) if upstream is None else upstream).plus_lse(to_lse)
        gradients = recomputed(
            ctx.engine.workspace, hidden, head, targets, terms=ctx.terms, partials=partials, needs_grad=needs_grad
        )
        return _in_place(gradients, 6)


_TENSORS = 4
"""How many tensors a head has, `Head.tensors`; those of an autograd function come last."""


def _inputs(hidden: Tensor, head: Head) -> tuple[Any, ...]:
    """The inputs of an autograd function, detached under no_grad, where their gradients would be computed in vain."""
    tensors = (hidden, *head.tensors())
    if torch.is_grad_enabled():
        return tensors
    return tuple(None if tensor is None else tensor.detach() for tensor in tensors)


def _needs_grad(ctx: Any) -> tuple[bool, ...]:
    """Of the hidden states and the tensors of the head."""
    return (ctx.needs_input_grad[0], *ctx.needs_input_grad[-_TENSORS:])


def _in_place(gradients: tuple[Tensor | None, ...], others: int) -> tuple[Tensor | None, ...]:
    """Gradients of the hidden states and the head, and None for the `others` between them."""
    return (gradients[0], *(None,) * others, *gradients[1:])


def _dot(upstream: Tensor | None, values: Tensor) -> Tensor:
    """The sum of upstream gradients times values; 0 without any."""
    return values.new_zeros(()) if upstream is None else upstream @ values


def _alike(upstream: Tensor, counted: Tensor, expected: Tensor) -> tuple[bool, Tensor | None]:
    """Whether all `counted` tokens have one upstream gradient; and that over the `expected` one, None if it is it.

    The device is waited for once.
    """
    if len(upstream) == 0:
        return True, None
    low = torch.where(counted, upstream, torch.inf).amin()
    high = torch.where(counted, upstream, -torch.inf).amax()
    factor = high / expected
    none, same, came = torch.stack([low > high, (low == high) & factor.isfinite(), high == expected]).tolist()
    return none or same, None if none or came else factor


def _differentiable(
    hidden: Tensor,
    head: Head,
    targets: Tensor,
    needs_grad: tuple[bool, ...],
    total: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor | None, ...]:
    """Gradients of total(nll, logits) that have a graph themselves; holds (N, V) logits.

    The inputs are copied as views, so that a way from one to another, such as tied embeddings, has no part.
    """
    tensors = [None if tensor is None else tensor.view_as(tensor) for tensor in (hidden, *head.tensors())]
    views, weight, *others = tensors
    assert views is not None
    assert weight is not None
    logits = all_logits(views, head.with_tensors(weight, *others))
    value = total(F.cross_entropy(logits, targets, reduction="none"), logits)
    inputs = [tensor for tensor, needs in zip(tensors, needs_grad, strict=True) if needs and tensor is not None]
    gradients = iter(torch.autograd.grad(value, inputs, create_graph=True))
    return tuple(next(gradients) if needs else None for needs in needs_grad)


def _weighted_again(
    weighting: Weighting, terms: LossTerms, targets: Tensor, weights: Tensor | None
) -> Callable[[Tensor, Tensor], Tensor]:
    """The losses of the forward pass as a function of NLL and logits; `weights` are given if they are constants.

    Raises:
        ConfigError: a weighting whose state has moved on, and through whose weights a gradient passed.
    """
    if weights is None and weighting.state is not None:
        raise ConfigError(
            f"the loss {weighting.name!r} has a state and a gradient through its weights, which create_graph would "
            "compute again after the state has moved on. Detach the weights, or compute the loss on the logits."
        )

    def losses(nll: Tensor, logits: Tensor) -> Tensor:
        plain = terms.token_losses(nll, logits.logsumexp(-1), terms.mean_logits(logits), targets)
        if weights is not None:
            return times(plain, weights)
        return times(plain, weighting.factors(nll, entropy_of(logits.detach(), weighting.entropy)))

    return losses
