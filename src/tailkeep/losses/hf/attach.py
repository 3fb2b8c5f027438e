"""Attach a fused loss to a causal language model of transformers, take it off again, and save and load its state.

Rules: a model is exact under its loss or refused, and after `detach` it is what it was. The state is a file per
process in a checkpoint's folder, written whole or not at all, read without running code from it: a loss with a state
resumes exactly where it was saved, or raises.
"""

import contextlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from tailkeep.errors import AttachmentError, ConfigError, InputError
from tailkeep.losses.hf.logit_transform import (
    backbone_of,
    causal_lm,
    check_attachable,
    logit_settings,
    transformation_of,
)
from tailkeep.losses.hf.output_layer import gathered, linear_in
from tailkeep.losses.hf.patching import own_class, restore, role_of, swap
from tailkeep.losses.hf.self_check import check_exact
from tailkeep.losses.hf.state import Attachment, Monitor
from tailkeep.losses.options import LOSSES, named_weighting
from tailkeep.losses.terms import TERM_NAMES, LossTerms
from tailkeep.losses.weighting import Weighting
from tailkeep.runs.storage import Storage


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
        terms.to(device).fit(transformation.vocab_size or len(linear.weight), device, torch.float32)
        settings = logit_settings(inner)
        attachment = Attachment(weighting, terms, transformation, impl, Monitor(truncates(weighting)), settings)
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


class LossHolder(Protocol):
    """A weighting at work, such as an attachment, with its statistics."""

    @property
    def weighting(self) -> Weighting:
        """The loss."""
        ...

    @property
    def monitor(self) -> Monitor:
        """What the loss saw."""
        ...


def save_loss_state(model: nn.Module, folder: str | Path, *, rank: int = 0) -> Path:
    """Write the state of the loss attached to `model`, of any kind, into `folder`.

    Args:
        model: an attached model, or one that wraps it.
        folder: of a checkpoint; made if missing.
        rank: of this process; each has a state of its own.

    Returns:
        The file.

    Raises:
        ConfigError: nothing is attached.
        StorageError: the file system refused.
    """
    return write_state(attachment_of(model), Path(folder), rank)


def load_loss_state(model: nn.Module, folder: str | Path, *, rank: int = 0) -> None:
    """Resume where `save_loss_state` was called; to be called after `attach`, before the first training call.

    Raises:
        ConfigError: nothing is attached.
        InputError: there is no such file, it cannot be read, or it is of another loss.
    """
    read_state(attachment_of(model), Path(folder), rank)


def state_file(folder: Path, rank: int) -> Path:
    """Where the state of a process is kept."""
    return folder / f"tailkeep_loss_{rank}.pt"


def write_state(holder: LossHolder, folder: Path, rank: int) -> Path:
    """See `save_loss_state`."""
    content = io.BytesIO()
    weighting, monitor = holder.weighting, holder.monitor
    state = {"loss": weighting.name, "weighting": weighting.state_dict(), "monitor": monitor.state_dict()}
    torch.save(state, content)
    path = state_file(folder, rank)
    Storage().write_bytes(path, content.getvalue())
    return path


def read_state(holder: LossHolder, folder: Path, rank: int) -> None:
    """See `load_loss_state`."""
    path, name = state_file(folder, rank), holder.weighting.name
    if not path.is_file():
        raise InputError(
            f"{path} is missing: the checkpoint has no state of the loss {name!r} of process {rank}, which would start "
            "anew. Resume from a checkpoint that was saved with it, with as many processes, or train from the start."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no error of its own
        raise InputError(f"{path} cannot be read ({error}). Resume from another checkpoint.") from error
    if not isinstance(state, Mapping) or state.get("loss") != name:
        saved: Any = state.get("loss") if isinstance(state, Mapping) else None
        raise InputError(
            f"{path} is the state of the loss {saved!r}, and the attached one is {name!r}. Attach the loss that was "
            "saved, or start a new run from the checkpoint's weights."
        )
    try:
        holder.weighting.load_state_dict(state["weighting"])
        holder.monitor.load_state_dict(state["monitor"])
    except ConfigError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path} is no whole state of the loss {name!r} ({type(error).__name__}: {error}). Resume from another "
            "checkpoint, or start a new run from the checkpoint's weights."
        ) from error
