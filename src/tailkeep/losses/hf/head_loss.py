"""The loss in the call of the output layer: hidden states come in, weighted losses of tokens go out in place of logits.

Rule: a loss that judges whole sequences sees all tokens first, without gradients, and drops a sequence by ignoring its
targets; statistics are of all targets. Here too: the part of a step that a model's own loss is in evaluation.
"""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tailkeep.errors import AttachmentError
from tailkeep.losses.eager import share_of
from tailkeep.losses.hf.output_layer import check_weight, linear_in, weights_of
from tailkeep.losses.hf.state import Attachment, Call
from tailkeep.losses.linear import linear_weighted_cross_entropy
from tailkeep.losses.nll import clamp_count, count_on
from tailkeep.losses.sequences import SequenceWeighting
from tailkeep.losses.terms import TermOptions
from tailkeep.losses.weighting import CROSS_ENTROPY

INSTEAD = "Call detach(model) and compute the loss from the logits, with truncated_cross_entropy for one."
"""What to do where the fused loss cannot be computed."""


def token_losses(head: nn.Module, call: Call, hidden: Tensor, options: dict[str, Any]) -> Tensor:
    """(B, T, 1) weighted losses in place of (B, T, V) logits.

    Args:
        head: the attached module of the output layer.
        call: the training call.
        hidden: (B, T, D), the input of `head`.
        options: keyword arguments of the call of `head`.

    Raises:
        AttachmentError: a second call, positions that do not fit the targets, adapters that are not known, or a weight
            split over devices.
    """
    if call.stats is not None:
        raise AttachmentError(f"The output layer was called twice in one training step. {INSTEAD}")
    if hidden.shape[:-1] != call.targets.shape:
        raise AttachmentError(
            f"The output layer got positions {tuple(hidden.shape[:-1])} for targets {tuple(call.targets.shape)}. "
            f"Leave out logits_to_keep and the like. {INSTEAD}"
        )
    check_weight(linear_in(head).weight, INSTEAD)
    weight, bias, low_rank = weights_of(head, hidden, options)
    attachment: Attachment = head.__dict__["_tailkeep"]
    output = attachment.transformation
    targets, weighting = call.targets.to(hidden.device), call.weighting
    compute = functools.partial(
        linear_weighted_cross_entropy,
        hidden,
        weight,
        bias=bias,
        softcap=output.softcap,
        scale=output.scale,
        ignore_index=call.ignore_index,
        valid_vocab_size=output.vocab_size,
        low_rank=low_rank,
        reduction="none",
        return_stats=True,
        impl=attachment.impl,
    )
    before = None
    if isinstance(weighting, SequenceWeighting):
        with torch.no_grad():
            nll, before = compute(targets, CROSS_ENTROPY)
        assert call.initial_nll is not None
        targets = weighting.kept_targets(nll, targets, call.initial_nll, ignore_index=call.ignore_index)
    terms: TermOptions = call.terms.to(hidden.device).options()
    per_token: Tensor
    per_token, stats = compute(targets, weighting.of_tokens(), expected_gradient=share_of(call.items, hidden), **terms)
    call.stats = stats if before is None else before.with_kept_of(stats)
    return per_token.unsqueeze(-1)


def over_items(output: Any, arguments: Mapping[str, Any], items: Any) -> Any:
    """`output` with this call's part of the loss of a step of `items` targets, for a model that gives its own mean.

    Trainer takes the loss of every attached model for a sum over the targets of all ranks, divided by their number.
    """
    shifted = arguments.get("shift_labels")
    targets = arguments["labels"][..., 1:] if shifted is None else shifted
    part = (targets != -100).sum() / clamp_count(count_on(targets.device, items))
    if isinstance(output, tuple):
        return output[0] * part, *output[1:]
    loss = output.get("loss")
    return output if loss is None else type(output)(**{**output, "loss": loss * part.to(loss.device)})
