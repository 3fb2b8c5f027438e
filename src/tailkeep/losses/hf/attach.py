"""Attach a fused loss to a causal language model of transformers, and take it off again.

Rule: a model is exact under its loss or refused, and after `detach` it is what it was.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from tailkeep.errors import AttachmentError, ConfigError
from tailkeep.losses.hf.adapted_head import linear_in
from tailkeep.losses.hf.logit_transform import backbone_of, causal_lm, check_attachable, transformation_of
from tailkeep.losses.hf.patching import own_class, restore, role_of, swap
from tailkeep.losses.hf.self_check import check_exact
from tailkeep.losses.hf.state import Attachment, Monitor
from tailkeep.losses.hf.zero3 import gathered
from tailkeep.losses.options import LOSSES, named_weighting
from tailkeep.losses.terms import TERM_NAMES, LossTerms
from tailkeep.losses.weighting import Weighting


def resolve_weighting(loss: str | Weighting, threshold: float | None, options: Mapping[str, Any]) -> Weighting:
    """The weighting named `loss`, with its options, or `loss` itself.

    Raises:
        ConfigError: neither a name nor a weighting, an unknown name, or options that it does not have.
    """
    loss_options = {**({} if threshold is None else {"threshold": threshold}), **options}
    if isinstance(loss, str):
        return named_weighting(loss, **loss_options)
    if not isinstance(loss, Weighting):
        raise ConfigError(
            f"loss {loss!r} is neither a name nor a Weighting. Give a name such as 'truncated', or make a Weighting."
        )
    if loss_options:
        names = ", ".join(loss_options)
        raise ConfigError(f"{names} have no effect with a Weighting object. Give them to its constructor.")
    return loss


def truncates(weighting: Weighting) -> bool:
    """Whether a kept fraction of 1 means that the weighting did nothing; a threshold of 1 asks for it."""
    kind = LOSSES.get(weighting.name)
    return kind is not None and kind.truncates and not bool(weighting.weigh(torch.zeros(1), None).any())


ModelT = TypeVar("ModelT", bound=nn.Module)


def attach(
    model: ModelT,
    loss: str | Weighting = "truncated",
    *,
    threshold: float | None = None,
    impl: str = "auto",
    check: bool = True,
    **options: Any,
) -> ModelT:
    """Make `model(..., labels=...)` in training mode return the fused loss, without logits.

    Evaluation, generation and saving stay the model's own. Labels are shifted inside, and `num_items_in_batch`,
    `shift_labels` and auxiliary losses are used as transformers does. Attach before DDP, `fully_shard`,
    `torch.compile` or `Accelerator.prepare`, and before or after the optimizer is made.

    Args:
        model: a causal language model of transformers, or a PEFT model around one; changed in place.
        loss: a name, or any `Weighting`.
        threshold: of the losses that have one; a probability in (0, 1]. None leaves the loss its own default, which
            for truncated cross-entropy is 0.99.
        impl: the engine, see `linear_token_nll`.
        check: compare the fused loss with the unfused one on a tiny batch first.
        **options: those of the named loss, and `label_smoothing`, `class_weight` and `z_loss` of any loss, see
            `LossTerms`.

    Returns:
        `model`.

    Raises:
        ConfigError: a model whose fused loss would not be exact, with the reason and the unfused way; or a loss or
            options that cannot be used.
    """
    inner = causal_lm(model)
    terms = LossTerms(**{name: options.pop(name) for name in [*options] if name in TERM_NAMES})
    weighting = resolve_weighting(loss, threshold, options)
    head = check_attachable(inner)
    forward = own_class(inner).forward
    linear = linear_in(head)
    with gathered(inner, head):
        transformation = transformation_of(inner, head)
        device = linear.weight.device
        terms.to(device).fit(transformation.vocab_size or linear.out_features, device, torch.float32)
        attachment = Attachment(weighting, terms, transformation, impl, Monitor(truncates(weighting)))
        backbone = backbone_of(inner)
        swap(inner, "model", attachment)
        swap(head, "head", attachment)
        if backbone is not None:
            swap(backbone, "backbone", attachment)
        if check:
            with contextlib.ExitStack() as undo:
                undo.callback(detach, model)
                # The reference is the model's own loss, differentiated in evaluation mode.
                with without_attached_loss(model):
                    _check(inner, head, forward, weighting.of_tokens(), terms)
                undo.pop_all()
    return model


def _check(
    model: nn.Module, head: nn.Module, forward: Callable[..., Any], weighting: Weighting, terms: LossTerms
) -> None:
    try:
        check_exact(model, head, forward, weighting, terms)
    except AttachmentError as error:
        raise ConfigError(str(error)) from error


def detach(model: ModelT) -> ModelT:
    """Undo `attach`, also where the output layer was replaced since.

    Raises:
        ConfigError: nothing is attached, or another library has changed the classes since.
    """
    attachment_of(model)
    parts = [module for module in model.modules() if role_of(module) is not None]
    for module in parts:
        restore(module)
    return model


def is_attached(model: nn.Module) -> bool:
    """Whether a loss is attached to `model`, or to a model that it wraps."""
    return _attached_model(model) is not None


def read_stats(model: nn.Module) -> dict[str, float]:
    """Means over the valid targets of this process's training calls since the last `read_stats`.

    Returns:
        `kept_fraction`, `cross_entropy` in nats/token (unweighted, whatever the loss), `confidence` (mean p of
        the target), `accuracy` (share of targets that were the most likely token) and `targets`, their number; empty if
        there was none.

    Raises:
        ConfigError: nothing is attached.
    """
    return attachment_of(model).monitor.read()


def weighting_of(model: nn.Module) -> Weighting:
    """The attached loss. A checkpoint can save its state.

    Raises:
        ConfigError: nothing is attached.
    """
    return attachment_of(model).weighting


@contextlib.contextmanager
def without_attached_loss(model: nn.Module) -> Iterator[None]:
    """Within, `model` behaves as if nothing were attached: logits in training mode, its own loss, its backbone alone.

    Other threads train on with the attached loss, but not those that call a compiled model.

    Raises:
        ConfigError: nothing is attached.
    """
    attachment = attachment_of(model)
    thread = threading.get_ident()
    attachment.bypasses.append(thread)
    try:
        yield
    finally:
        attachment.bypasses.remove(thread)


def attachment_of(model: nn.Module) -> Attachment:
    """What `attach` left on `model`, or on a model that it wraps.

    Raises:
        ConfigError: nothing is attached.
    """
    inner = _attached_model(model)
    if inner is None:
        raise ConfigError(f"{type(model).__name__} has no loss attached. Call attach(model) first.")
    attachment: Attachment = inner.__dict__["_tailkeep"]
    return attachment


def _attached_model(model: object) -> nn.Module | None:
    modules = model.modules() if isinstance(model, nn.Module) else ()
    return next((module for module in modules if role_of(module) == "model"), None)
