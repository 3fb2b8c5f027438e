"""Attached modules: subclasses under the names of their own classes, and the training call that computes the loss.

A module changes its class and nothing else, so `copy.deepcopy`, pickling, FSDP2 and `save_pretrained` see an ordinary
module: a copy runs its own weights, which a method stored on the object would not. The loss is computed inside the
output layer's own call, where every wrapper that acts on modules (DDP, FSDP2, autocast, device hooks) acts as it does
for logits. Rule: the loss is built from the very tensor that the output layer returned, since FSDP2 gathers the weights
for the backward pass when the gradient reaches that tensor; a model that is trained past both ways raises.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailkeep.errors import AttachmentError, ConfigError
from tailkeep.losses.checks import check_count, check_ignore_index, check_tensors
from tailkeep.losses.hf.head_loss import INSTEAD, over_items, token_losses
from tailkeep.losses.hf.logit_transform import backbone_of, has_own_loss, logit_settings, output_layer
from tailkeep.losses.hf.state import Attachment, Call
from tailkeep.losses.nll import clamp_count, count_on, whole
from tailkeep.losses.sequences import check_not_packed
from tailkeep.losses.terms import LossTerms
from tailkeep.losses.weighting import Weighting

_COMPILED = "_tailkeep_call"
"""The key of a call that torch.compile traces: it cannot trace the thread's number."""
_CHECKED_HOOKS = "_tailkeep_hooks"


def call_of(module: nn.Module) -> Call | None:
    """The training call of this thread, or of a compiled step, that `module` is part of."""
    call: Call | None = module.__dict__.get(_call_key(), module.__dict__.get(_COMPILED))
    return call


def _call_key() -> str:
    """Where a module finds its call: in its own `__dict__`, so that neither replicas nor threads mix."""
    return _COMPILED if torch.compiler.is_compiling() else f"{_COMPILED}_{threading.get_ident()}"


def training_forward(
    model: nn.Module, forward: Callable[..., Any], arguments: dict[str, Any], weighting: Weighting, terms: LossTerms
) -> tuple[Any, Call]:
    """The model's own output with the attached loss in place of its own, and without logits.

    Args:
        model: an attached model, in any mode.
        forward: the forward of the model's own class.
        arguments: the caller's, by name, with `labels` or `shift_labels`.
        weighting, terms: the loss.

    Raises:
        AttachmentError: the output layer is no longer the attached one, what it returned was changed on the way, or
            the model was given a loss function of its own.
    """
    name = type(model).__name__
    if has_own_loss(model):
        raise AttachmentError(
            f"loss_function was set on {name} after attach, and the attached loss would replace it silently. "
            "Call detach(model) to train with it, or `del model._loss_function`."
        )
    if not torch.compiler.is_compiling():
        _check_settings(model)
    return_dict = arguments.pop("return_dict", None)
    call = _call(arguments, weighting, terms)
    parts = _parts(model)
    key = _call_key()
    for module in parts:
        module.__dict__[key] = call
    try:
        output = forward(model, **arguments, return_dict=True)
    finally:
        for module in parts:
            module.__dict__.pop(key, None)
    if call.losses is None:
        raise AttachmentError(f"{name} did not call its output layer, so the attached loss had no part. {INSTEAD}")
    if output.logits.shape != call.losses.shape:
        raise AttachmentError(
            f"{name} changed the shape of what its output layer returned from {tuple(call.losses.shape)} to "
            f"{tuple(output.logits.shape)}. Leave out logits_to_keep and the like. {INSTEAD}"
        )
    result = _with_loss(model, output, call.losses.sum() / call.items.to(call.losses.device))
    if return_dict is None:
        return_dict = getattr(getattr(model, "config", None), "return_dict", True)
    return (result if return_dict else result.to_tuple()), call


def _check_settings(model: nn.Module) -> None:
    before, now = model.__dict__["_tailkeep"].settings, logit_settings(model)
    for name in before:
        if before[name] != now.get(name):
            raise AttachmentError(
                f"config.{name} was {before[name]!r} when the loss was attached and is {now.get(name)!r} now. Call "
                "detach(model), then attach again."
            )


def with_auxiliary(model: nn.Module, output: Any, loss: Tensor) -> Tensor:
    """The loss plus, if the model returns one, its experts' router loss times the model's own factor."""
    auxiliary = output.get("aux_loss")
    return loss + _router_factor(model) * auxiliary.to(loss.device) if isinstance(auxiliary, Tensor) else loss


def _call(arguments: dict[str, Any], weighting: Weighting, terms: LossTerms) -> Call:
    """Take what concerns the loss out of `arguments`, as the loss functions of transformers do."""
    labels, targets = arguments.pop("labels", None), arguments.pop("shift_labels", None)
    num_items = arguments.pop("num_items_in_batch", None)
    ignore_index = arguments.pop("ignore_index", -100)
    check_ignore_index(ignore_index)
    if targets is None:
        check_tensors(labels=labels)
        if not labels.ndim:
            raise ConfigError("labels is one number. Pass (B, T), a token id for each of the input_ids.")
        targets = F.pad(whole(labels), (0, 1), value=ignore_index)[..., 1:]
    else:
        check_tensors(shift_labels=targets)
        targets = whole(targets)
    if num_items is None:
        valid = targets != ignore_index
        _, sum_of_weights = terms.to(targets.device).denominator(targets, valid, "mean", None)
        items = valid.sum() if sum_of_weights is None else count_on(targets.device, sum_of_weights)
    else:
        check_count(num_items)
        items = count_on(num_items.device if isinstance(num_items, Tensor) else targets.device, num_items)
    if weighting.needs_sequences:
        check_not_packed(targets, arguments, ignore_index=ignore_index)
    return Call(targets, ignore_index, clamp_count(items), weighting, terms, _initial_nll(arguments, weighting))


def _initial_nll(arguments: dict[str, Any], weighting: Weighting) -> Tensor | None:
    initial_nll: Tensor | None = arguments.pop("initial_nll", None)
    if initial_nll is None and weighting.needs_sequences:
        raise AttachmentError(
            f"the loss {weighting.name!r} judges whole sequences by their loss under the initial policy. Pass the "
            "model initial_nll (B,) beside its labels, as initial_sequence_nll computes it before training."
        )
    if initial_nll is not None and not weighting.needs_sequences:
        raise AttachmentError(f"initial_nll has no effect on the loss {weighting.name!r}. Leave it out of the batch.")
    return initial_nll


def _parts(model: nn.Module) -> list[nn.Module]:
    """The attached modules under `model`; those of a copy are its own."""
    head, backbone = output_layer(model), backbone_of(model)
    attachment = model.__dict__["_tailkeep"]
    if hasattr(head, "_fsdp_wrapped_module"):
        raise AttachmentError(
            f"FSDP wraps the output layer of {type(model).__name__} alone, whose loss then runs outside of it. Give an "
            "auto_wrap_policy that wraps layers of the backbone only, such as transformer_auto_wrap_policy, or use "
            "fully_shard."
        )
    if head is None or head.__dict__.get("_tailkeep") is not attachment or "forward" in vars(head):
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
    raise AttachmentError(f"{type(model).__name__} has an aux_loss, but no router_aux_loss_coef to weigh it. {INSTEAD}")


Role: TypeAlias = Literal["model", "head", "backbone"]


def swap(module: nn.Module, role: Role, attachment: Attachment) -> None:
    """Make `module` an attached one."""
    kind: Any = own_class(module)
    module.__class__ = attached_class(kind, role)
    module.__dict__["_tailkeep"] = attachment


def restore(module: nn.Module) -> None:
    """Undo `swap`.

    Raises:
        ConfigError: another library has changed the class since.
    """
    if own_class(module) is type(module):
        raise ConfigError(
            f"the class of {type(module).__name__} was changed after attach, by fully_shard for one. "
            "Detach from a model that is not sharded, such as one loaded from its checkpoint."
        )
    module.__class__ = own_class(module)
    del module.__dict__["_tailkeep"]
    module.__dict__.pop(_CHECKED_HOOKS, None)


def own_class(module: nn.Module) -> type[nn.Module]:
    """The class of `module`, or the one that it had before `swap`."""
    attached: tuple[type[nn.Module], Role] | None = vars(type(module)).get("_tailkeep_class")
    return type(module) if attached is None else attached[0]


def role_of(module: nn.Module) -> Role | None:
    """Which part of an attached model `module` is; classes that others made from an attached one count."""
    attached: tuple[type, Role] | None = getattr(type(module), "_tailkeep_class", None)
    return attached[1] if attached is not None and "_tailkeep" in vars(module) else None


@functools.cache
def attached_class(base: Any, role: Role) -> type[nn.Module]:
    """The subclass of `base` for one role."""
    body: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__reduce_ex__": _reduce,
        "_tailkeep_class": (base, role),
        "forward": _FORWARDS[role](base),
    }
    if role == "head":
        body["__call__"] = _head_call(base)
    if role == "model":
        # The sum over num_items_in_batch is right whatever the model's own forward does with it.
        body["accepts_loss_kwargs"] = True
    return type(base.__name__, (base,), body)


def _reduce(self: nn.Module, _protocol: Any) -> Any:
    # The class cannot be found by its name, which is that of its base: it is made again.
    return _blank, vars(type(self))["_tailkeep_class"], self.__dict__


def _blank(base: Any, role: Role) -> nn.Module:
    new_class = attached_class(base, role)
    blank: nn.Module = new_class.__new__(new_class)
    return blank


def _model_forward(base: type[nn.Module]) -> Callable[..., Any]:
    parameters = inspect.signature(base.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][1:]
    count: Callable[..., None] = torch.compiler.disable(_count)  # type: ignore[no-untyped-call]
    takes_items = getattr(
        base,
        "accepts_loss_kwargs",
        any(p.kind == p.VAR_KEYWORD or p.name == "num_items_in_batch" for p in parameters),
    )

    @functools.wraps(base.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # A new object of this class, as type(model).from_pretrained makes, has nothing attached.
        attachment: Attachment | None = self.__dict__.get("_tailkeep")
        if attachment is None:
            return base.forward(self, *args, **kwargs)
        if len(args) > len(names):
            raise TypeError(f"{base.__name__}.forward takes {len(names)} positional arguments, {len(args)} were given")
        arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        has_labels = arguments.get("labels") is not None or arguments.get("shift_labels") is not None
        if self.training and has_labels and not attachment.is_bypassed():
            output, call = training_forward(self, base.forward, arguments, attachment.weighting, attachment.terms)
            count(attachment, call)
            return output
        arguments.pop("initial_nll", None)
        items = None if takes_items else arguments.pop("num_items_in_batch", None)
        is_watched = torch.is_grad_enabled() and not attachment.is_bypassed()
        if is_watched and self.training:
            raise AttachmentError(_NO_LABELS.format(name=base.__name__))
        output = base.forward(self, **arguments)
        if items is not None and has_labels:
            output = over_items(output, arguments, items)
        if is_watched:
            _watch(output)
        return output

    return forward


def _count(attachment: Attachment, call: Call) -> None:
    if call.stats is not None:
        attachment.monitor.add(call.stats)


def _head_forward(base: type[nn.Module]) -> Callable[..., Any]:
    @functools.wraps(base.forward)
    def forward(self: nn.Module, input: Tensor, **options: Any) -> Tensor:
        call = call_of(self)
        if call is not None:
            call.computed = token_losses(self, call, input, options)
            return call.computed
        watched = _is_bypass(self, "output layer")
        logits: Tensor = base.forward(self, input, **options)
        if watched:
            _watch(logits)
        return logits

    return forward


def _head_call(base: type[nn.Module]) -> Callable[..., Any]:
    def training_call(self: nn.Module, call: Call, *args: Any, **kwargs: Any) -> Any:
        # Behind all hooks: what a hook made of the losses is what the model goes on with.
        call.losses = base.__call__(self, *args, **kwargs)
        if call.losses is not call.computed:
            _check_hooks(self, call)
        return call.losses

    # Which tokens are kept is known only at run time, so a compiled graph would break here many times over.
    eager: Callable[..., Any] = torch.compiler.disable(training_call)  # type: ignore[no-untyped-call]

    def __call__(self: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - a method of the class to be
        call = call_of(self)
        return base.__call__(self, *args, **kwargs) if call is None else eager(self, call, *args, **kwargs)

    return __call__


def _check_hooks(head: nn.Module, call: Call) -> None:
    """Once for each set of hooks: one may move losses or change their type, and no other thing."""
    hooks = (*head._forward_hooks,)
    computed, losses = call.computed, call.losses
    if head.__dict__.get(_CHECKED_HOOKS) == hooks or computed is None or losses is None:
        return
    if losses.shape == computed.shape and not torch.equal(computed.to(losses), losses):
        raise AttachmentError(
            "a forward hook of the output layer changes what it returns, which are losses in training. Remove it, or "
            f"register it before attach, which then refuses what it cannot fuse. {INSTEAD}"
        )
    head.__dict__[_CHECKED_HOOKS] = hooks


def _backbone_forward(base: type[nn.Module]) -> Callable[..., Any]:
    @functools.wraps(base.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        watched = call_of(self) is None and _is_bypass(self, "backbone")
        output = base.forward(self, *args, **kwargs)
        if watched:
            _watch(output)
        return output

    return forward


_FORWARDS: dict[Role, Callable[[type[nn.Module]], Callable[..., Any]]] = {
    "model": _model_forward,
    "head": _head_forward,
    "backbone": _backbone_forward,
}

_HOW = (
    "A trainer with a loss of its own needs its adapter (for TRL tailkeep.integrations.trl) in place of attach, or "
    "detach(model) and a loss on the logits. Where no loss is meant, use torch.no_grad() or "
    "`with without_attached_loss(model):`."
)
_NO_LABELS = (
    "{name} has a loss attached and was called in training mode without labels, so the attached loss would have no "
    "part. Pass labels to the model, and no compute_loss_func or label_smoothing_factor to the trainer. " + _HOW
)
_BYPASS = (
    "The {part} of a model with an attached loss was called in training mode past the model's own forward, so the "
    "attached loss would have no part. " + _HOW
)
_EVALUATION = (
    "A backward pass reached a model with an attached loss in evaluation mode, where from_pretrained leaves it and "
    "the attached loss has no part. Call model.train() before training. Where this is no training, use "
    "`with without_attached_loss(model):`."
)


def _is_bypass(module: nn.Module, part: str) -> bool:
    """Whether a backward pass through `module` would be past the loss; in training mode one will come, so it raises."""
    attachment: Attachment | None = module.__dict__.get("_tailkeep")
    if attachment is None or attachment.is_bypassed() or not torch.is_grad_enabled():
        return False
    if module.training:
        raise AttachmentError(_BYPASS.format(part=part))
    return True


def _watch(output: Any) -> None:
    """Make a backward pass raise if it reaches `output` or a tensor in it."""
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple) else (output,)
    for tensor in parts:
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            tensor.register_hook(_raise_in_evaluation)  # type: ignore[no-untyped-call]


def _raise_in_evaluation(_gradient: Tensor) -> None:
    raise AttachmentError(_EVALUATION)
