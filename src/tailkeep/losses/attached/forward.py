"""The training call of an attached model: the loss is computed inside the output layer's own call.

There every wrapper that acts on modules (DDP, FSDP2, autocast, device hooks) acts as it does for logits. Rule: the loss
is built from the very tensor that the output layer returned, since FSDP2 gathers the weights for the backward pass when
the gradient reaches that tensor; what the model makes of it afterwards is only looked at for its shape.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tailkeep.errors import AttachmentError
from tailkeep.losses.attached.attachment import Attachment, Call
from tailkeep.losses.attached.parts import backbone_of, has_own_loss, output_layer
from tailkeep.losses.linear import linear_weighted_cross_entropy, share_of
from tailkeep.losses.token import at_least_something, check_count, count_on
from tailkeep.losses.weighting import Weighting

CALL = "_tailkeep_call"
"""Where a module finds the call it is part of: in its own `__dict__`, so that replicas in threads do not mix."""


def training_forward(
    model: nn.Module, forward: Callable[..., Any], arguments: dict[str, Any], weighting: Weighting
) -> tuple[Any, Call]:
    """The model's own output with the attached loss in place of its own, and without logits.

    Args:
        model: an attached model, in any mode.
        forward: the forward of the model's own class.
        arguments: the caller's, by name, with `labels` or `shift_labels`.
        weighting: the loss.

    Raises:
        AttachmentError: the output layer is no longer the attached one, what it returned was changed on the way, or
            the model was given a loss function of its own.
    """
    name = type(model).__name__
    if has_own_loss(model):
        raise AttachmentError(
            f"loss_function was set on {name} after attach, which the attached loss would replace without a word. "
            "Call detach(model) to train with it, or `del model._loss_function`."
        )
    return_dict = arguments.pop("return_dict", None)
    call = _call(arguments, weighting)
    parts = _parts(model)
    for module in parts:
        module.__dict__[CALL] = call
    try:
        output = forward(model, **arguments, return_dict=True)
    finally:
        for module in parts:
            module.__dict__.pop(CALL, None)
    if call.losses is None:
        raise AttachmentError(f"{name} did not call its output layer, so the attached loss had no part. {_RETURN}")
    if output.logits.shape != call.losses.shape:
        raise AttachmentError(
            f"{name} changed the shape of what its output layer returned from {tuple(call.losses.shape)} to "
            f"{tuple(output.logits.shape)}. Leave out logits_to_keep and the like. {_RETURN}"
        )
    result = _with_loss(model, output, call.losses.sum() / call.items.to(call.losses.device))
    if return_dict is None:
        return_dict = getattr(getattr(model, "config", None), "return_dict", True)
    return (result if return_dict else result.to_tuple()), call


def token_losses(head: nn.Linear, call: Call, hidden: Tensor) -> Tensor:
    """(B, T, 1) weighted losses in place of (B, T, V) logits.

    Raises:
        AttachmentError: a second call, positions that do not fit the targets, or a weight split over devices.
    """
    if call.stats is not None:
        raise AttachmentError(f"The output layer was called twice in one training step. {_RETURN}")
    if hidden.shape[:-1] != call.targets.shape:
        raise AttachmentError(
            f"The output layer got positions {tuple(hidden.shape[:-1])} for targets {tuple(call.targets.shape)}. "
            f"Leave out logits_to_keep and the like. {_RETURN}"
        )
    if hasattr(head.weight, "placements"):
        raise AttachmentError(f"The output layer is split over devices (tensor parallel), its loss is not. {_RETURN}")
    attachment: Attachment = head.__dict__["_tailkeep"]
    output = attachment.transformation
    losses, call.stats = linear_weighted_cross_entropy(
        hidden,
        head.weight,
        call.targets.to(hidden.device),
        call.weighting,
        bias=head.bias,
        softcap=output.softcap,
        scale=output.scale,
        ignore_index=call.ignore_index,
        valid_vocab_size=output.vocab_size,
        reduction="none",
        expected_gradient=share_of(call.items, hidden),
        return_stats=True,
        impl=attachment.impl,
    )
    per_token: Tensor = losses
    return per_token.unsqueeze(-1)


def with_auxiliary(model: nn.Module, output: Any, loss: Tensor) -> Tensor:
    """The loss and, where the model was asked for it, that of its experts' router, weighed as the model weighs it."""
    auxiliary = output.get("aux_loss")
    return loss + _router_factor(model) * auxiliary.to(loss.device) if isinstance(auxiliary, Tensor) else loss


_RETURN = "Call detach(model) and compute the loss from the logits, with truncated_cross_entropy for one."


def _call(arguments: dict[str, Any], weighting: Weighting) -> Call:
    """Take what concerns the loss out of `arguments`, as the loss functions of transformers do."""
    labels, targets = arguments.pop("labels", None), arguments.pop("shift_labels", None)
    num_items = arguments.pop("num_items_in_batch", None)
    ignore_index = arguments.pop("ignore_index", -100)
    if targets is None:
        targets = F.pad(labels, (0, 1), value=ignore_index)[..., 1:]
    if num_items is None:
        items = (targets != ignore_index).sum()
    else:
        check_count(num_items)
        items = count_on(num_items.device if isinstance(num_items, Tensor) else targets.device, num_items)
    return Call(targets, ignore_index, at_least_something(items), weighting)


def _parts(model: nn.Module) -> list[nn.Module]:
    """The attached modules under `model`; those of a copy are its own."""
    head, backbone = output_layer(model), backbone_of(model)
    mine = model.__dict__["_tailkeep"]
    if head is None or head.__dict__.get("_tailkeep") is not mine or "forward" in vars(head):
        raise AttachmentError(
            f"The output layer of {type(model).__name__} was replaced after attach, so the attached loss would have no "
            "part. Call detach(model), then attach(model, ...) again, last."
        )
    return [head] if backbone is None else [head, backbone]


def _with_loss(model: nn.Module, output: Any, loss: Tensor) -> Any:
    others = {name: value for name, value in output.items() if name not in ("loss", "logits")}
    return type(output)(loss=with_auxiliary(model, output, loss), **others)


def _router_factor(model: nn.Module) -> float:
    for holder in (model, getattr(model, "config", None)):
        factor = getattr(holder, "router_aux_loss_coef", None)
        if factor is not None:
            return float(factor)
    raise AttachmentError(f"{type(model).__name__} has an aux_loss, but no router_aux_loss_coef to weigh it. {_RETURN}")
