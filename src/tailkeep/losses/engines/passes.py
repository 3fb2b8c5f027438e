"""The passes over the chunks of a loss, without autograd: facts of tokens, weighted losses, gradients computed again.

Rule: a chunk's logits are computed once in a pass, and no pass needs a graph. So the functions of autograd and the
operators of torch.compile are made of the same ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.engines.buffers import Gradients, Workspace
from tailkeep.losses.engines.logit_ops import LogitStats, Partials, accumulation_dtype
from tailkeep.losses.engines.reference import times
from tailkeep.losses.lm_head import Head
from tailkeep.losses.terms import LossTerms
from tailkeep.losses.weighting import Entropy, Weighting

MakeWorkspace: TypeAlias = Callable[..., Workspace]
"""`Chunked.workspace`."""


@dataclass(frozen=True)
class TokenFacts:
    """What one pass knows of N tokens, (N,) each; `entropy` and `mean_logits` are 0 where not requested."""

    nll: Tensor
    lse: Tensor
    mean_logits: Tensor
    entropy: Tensor
    correct: Tensor


@dataclass(frozen=True)
class WeightedPass:
    """N weighted losses, (N,) each, their derivatives, and the gradients for the `expected` upstream one.

    `weights_are_constant` says that no gradient passes through them.
    """

    losses: Tensor
    facts: TokenFacts
    weights: Tensor
    weights_are_constant: bool
    partials: Partials
    gradients: Gradients
    expected: Tensor


def facts_pass(
    workspace: MakeWorkspace, hidden: Tensor, head: Head, targets: Tensor, *, entropy: Entropy, terms: LossTerms
) -> TokenFacts:
    """The facts of the N tokens of `hidden` (N, D)."""
    work, facts = workspace(hidden, head), _no_facts(hidden)
    for chunk in work.chunks():
        _note(facts, chunk, work.forward_chunk(chunk, targets[chunk], entropy, terms))
    return facts


def weighted_pass(
    workspace: MakeWorkspace,
    hidden: Tensor,
    head: Head,
    targets: Tensor,
    weighting: Weighting,
    *,
    terms: LossTerms,
    expected: Tensor | None,
    needs_grad: tuple[bool, ...],
) -> WeightedPass:
    """The weighted losses of the N tokens of `hidden` (N, D); `needs_grad` is that of `hidden` and `Head.tensors`.

    In float16 an upstream gradient of 1 is expected: probabilities times a small number would leave its range.
    """
    if expected is None or hidden.dtype == torch.float16:
        expected = torch.ones((), dtype=accumulation_dtype(hidden.dtype), device=hidden.device)
    work = workspace(hidden, head, needs_grad=needs_grad, nll_alone=terms.is_plain)
    losses, weights, facts = numbers(hidden), numbers(hidden), _no_facts(hidden)
    parts = [numbers(hidden) for _ in range(_num_partials(terms))]
    weights_are_constant = True
    for chunk in work.chunks():
        stats = work.forward_chunk(chunk, targets[chunk], weighting.entropy, terms)
        _note(facts, chunk, stats)
        if work.gradients.needs_grad:
            losses[chunk], weighed, partials = _weigh(weighting, stats)
            weights[chunk] = weighed.detach()
            weights_are_constant &= not weighed.requires_grad
            for part, values in zip(parts, partials.parts(), strict=False):
                assert values is not None
                part[chunk] = values
            work.accumulate_backward(stats, chunk.start, partials.times(expected))
        else:
            weights[chunk] = weighting.factors(stats.nll, stats.entropy)
            losses[chunk] = times(_losses(stats), weights[chunk])
    return WeightedPass(losses, facts, weights, weights_are_constant, Partials(*parts), work.gradients, expected)


def recomputed(
    workspace: MakeWorkspace,
    hidden: Tensor,
    head: Head,
    targets: Tensor,
    *,
    terms: LossTerms,
    partials: Partials,
    needs_grad: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Gradients of losses with these `partials`, from logits computed again for the rows that have any."""
    counted = partials.counted.nonzero().squeeze(1)
    work = workspace(hidden, head, tokens=len(counted), needs_grad=needs_grad, nll_alone=partials.lse is None)
    for chunk in work.chunks():
        places = counted[chunk]
        stats = work.forward_chunk(places, targets[places], None, terms)
        work.accumulate_backward(stats, places, partials[places])
    return work.gradients.finish(head)


def numbers(hidden: Tensor) -> Tensor:
    """Zeros, one number per token."""
    return hidden.new_zeros(len(hidden), dtype=accumulation_dtype(hidden.dtype))


def _no_facts(hidden: Tensor) -> TokenFacts:
    correct = torch.zeros(len(hidden), dtype=torch.bool, device=hidden.device)
    return TokenFacts(numbers(hidden), numbers(hidden), numbers(hidden), numbers(hidden), correct)


def _note(facts: TokenFacts, chunk: slice, stats: LogitStats) -> None:
    facts.nll[chunk], facts.lse[chunk], facts.correct[chunk] = stats.nll, stats.lse, stats.correct
    if stats.entropy is not None:
        facts.entropy[chunk] = stats.entropy
    if stats.mean_logits is not None:
        facts.mean_logits[chunk] = stats.mean_logits


def _losses(stats: LogitStats) -> Tensor:
    return stats.terms.token_losses(stats.nll, stats.lse, stats.mean_logits, stats.targets)


def _num_partials(terms: LossTerms) -> int:
    """How many parts the `Partials` of losses with `terms` have."""
    return 1 if terms.is_plain else 3 if terms.label_smoothing else 2


def _weigh(weighting: Weighting, stats: LogitStats) -> tuple[Tensor, Tensor, Partials]:
    """Weighted losses, weights, which require a gradient if it passes through them, and the losses' derivatives."""
    # What is saved here is used here: the hooks of a checkpoint around the loss would recompute all of it.
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_itself, _itself):
        facts = (stats.nll, stats.lse, stats.mean_logits)
        nll, lse, mean_logits = (None if fact is None else fact.detach().requires_grad_() for fact in facts)
        assert nll is not None
        assert lse is not None
        weights = weighting.factors(nll, stats.entropy)
        if not weights.requires_grad:
            return times(_losses(stats), weights), weights, _partials(stats).times(weights)
        if weighting.factors(nll.detach(), stats.entropy).requires_grad:
            raise ConfigError(
                f"the loss {weighting.name!r} weighs with a tensor that requires a gradient, which it would not get "
                "chunk by chunk. Detach it, or pass impl='reference' to train it."
            )
        losses = times(stats.terms.token_losses(nll, lse, mean_logits, stats.targets), weights)
        leaves = [leaf for leaf in (nll, lse, mean_logits) if leaf is not None][: _num_partials(stats.terms)]
        parts = torch.autograd.grad(losses.sum(), leaves, materialize_grads=True)
    return losses.detach(), weights, Partials(*parts)


def _partials(stats: LogitStats) -> Partials:
    """The derivatives of unweighted losses, see `LossTerms.token_losses`."""
    terms = stats.terms
    to_nll = torch.ones_like(stats.nll) if terms.class_weight is None else terms.class_weight[stats.targets]
    if terms.is_plain:
        return Partials(to_nll)
    smoothing, to_lse = terms.label_smoothing, 2 * terms.z_loss * stats.lse
    if not smoothing:
        return Partials(to_nll, to_lse)
    to_lse += smoothing * (1.0 if terms.class_weight is None else terms.class_weight.mean())
    return Partials((1 - smoothing) * to_nll, to_lse, torch.full_like(to_nll, -smoothing))


def _itself(tensor: Tensor) -> Tensor:
    return tensor
