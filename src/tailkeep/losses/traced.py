"""What torch.compile traces in place of the eager losses from hidden states: two operators, and plain tensors around.

Rule: the same numbers as those of the eager functions. A truncated loss is one pass, as there, but not in float16; any
other weighting is traced on the NLL of the tokens, whose backward pass computes the logits again, so a step takes
(2 + 6k) / 6.
"""

from typing import Any

import torch
from torch import Tensor

from tailkeep.losses.eager import LinearInputs, LossRequest, checked_head
from tailkeep.losses.engines.logit_ops import accumulation_dtype
from tailkeep.losses.engines.reference import times
from tailkeep.losses.lm_head import Head
from tailkeep.losses.nll import LossStats, clamp_count, count_on, reduce_nll, whole, with_requested
from tailkeep.losses.operators import token_facts, truncated_total
from tailkeep.losses.terms import NLL_ALONE, LossTerms
from tailkeep.losses.truncation import threshold_of
from tailkeep.losses.weighting import Entropy


def traced_facts(
    hidden: Tensor,
    head: Head,
    inputs: LinearInputs,
    *,
    entropy: Entropy,
    terms: LossTerms = NLL_ALONE,
    nll_alone: bool = True,
) -> tuple[Tensor, ...]:
    """(...) NLL, log-sum-exp, mean logit, entropy and correctness, see `token_facts`."""
    facts: tuple[Tensor, ...] = token_facts(
        hidden,
        *head.tensors(),
        whole(inputs.targets),
        terms.class_weight,
        float(head.scale),
        head.softcap,
        inputs.ignore_index,
        float(terms.label_smoothing),
        nll_alone,
        "" if entropy is None else str(entropy),
        inputs.impl,
    )
    return facts


def traced_token_nll(inputs: LinearInputs, *, entropy: Entropy, return_lse: bool) -> Any:
    """See `linear_token_nll`."""
    hidden, head = checked_head(inputs)
    nll, lse, _, spread, _ = traced_facts(hidden, head, inputs, entropy=entropy, nll_alone=not return_lse)
    return with_requested(nll, None if entropy is None else spread.detach(), lse if return_lse else None)


def traced_cross_entropy(inputs: LinearInputs, request: LossRequest) -> Any:
    """See `linear_weighted_cross_entropy`; the expected gradient, a matter of speed, has no part."""
    hidden, head = checked_head(inputs)
    weighting, reduction, return_lse = request.weighting, request.reduction, request.return_lse
    terms = request.terms.fit(len(head.weight), hidden.device, accumulation_dtype(hidden.dtype))
    targets = whole(inputs.targets)
    valid = targets != inputs.ignore_index
    threshold = threshold_of(weighting)
    # The sums of a single pass are narrow before they meet the upstream gradient, which float16 has no room for.
    has_room = hidden.dtype != torch.float16
    if threshold is not None and reduction != "none" and not return_lse and has_room:
        loss, nll, kept_mask, correct = _one_pass(hidden, head, inputs, request, terms, threshold)
        return with_requested(loss, LossStats.of(nll, kept_mask, correct, valid) if request.return_stats else None)
    nll, lse, mean_logits, entropy, correct = traced_facts(
        hidden, head, inputs, entropy=weighting.entropy, terms=terms, nll_alone=terms.is_plain and not return_lse
    )
    flat = None if weighting.entropy is None else entropy.detach().flatten()
    weights = torch.where(valid, weighting.factors(nll.flatten(), flat).view(valid.shape), 0)
    losses = times(terms.token_losses(nll, lse, mean_logits, torch.where(valid, targets, 0)), weights)
    kept_mask = weights.detach() != 0
    counted = kept_mask if reduction == "mean_kept" else valid
    reduction, num_items = terms.denominator(targets, counted, reduction, request.num_items)
    loss = reduce_nll(losses, kept_mask, valid=valid, reduction=reduction, num_items=num_items)
    stats = LossStats.of(nll.detach(), kept_mask, correct, valid) if request.return_stats else None
    return with_requested(loss, stats, lse if return_lse else None)


def _one_pass(
    hidden: Tensor, head: Head, inputs: LinearInputs, request: LossRequest, terms: LossTerms, threshold: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, NLL, kept mask and correctness."""
    targets, reduction = whole(inputs.targets), request.reduction
    valid = targets != inputs.ignore_index
    share = torch.ones((), dtype=accumulation_dtype(hidden.dtype), device=hidden.device)
    if reduction == "mean":
        _, items = terms.denominator(targets, valid, reduction, request.num_items)
        share = share / clamp_count(count_on(hidden.device, valid.sum() if items is None else items))
    tensors = (hidden, *head.tensors())
    needs_grad = [torch.is_grad_enabled() and tensor is not None and tensor.requires_grad for tensor in tensors]
    total, nll, kept_mask, correct, *_ = truncated_total(
        *tensors,
        targets,
        terms.class_weight,
        share,
        float(threshold),
        float(head.scale),
        head.softcap,
        inputs.ignore_index,
        float(terms.label_smoothing),
        float(terms.z_loss),
        inputs.impl,
        needs_grad,
    )
    if reduction == "mean_kept":
        _, items = terms.denominator(targets, kept_mask, reduction, None)
        total = total / clamp_count(count_on(hidden.device, kept_mask.sum() if items is None else items))
    return total, nll.detach(), kept_mask, correct
