"""The parts of a model that a loss attaches to, and the models it does not attach to, each with the reason.

Rule: what cannot be exact is refused here, before anything is changed.
"""

from typing import Any

from torch import nn

from tailkeep.errors import ConfigError

UNFUSED = (
    "Compute the loss from the logits instead, as in "
    "Trainer(compute_loss_func=...) with tailkeep.losses.truncated_cross_entropy on shifted labels."
)


def causal_lm(model: Any) -> nn.Module:
    """The language model itself: what PEFT wraps, or `model`.

    Raises:
        ConfigError: a module without an output layer to ask for.
    """
    if hasattr(model, "get_base_model"):
        inner: nn.Module = model.get_base_model()
        return inner
    if not hasattr(model, "get_output_embeddings"):
        raise ConfigError(
            f"{type(model).__name__} has no get_output_embeddings(). "
            "Attach to the Hugging Face model itself, before DDP, torch.compile or a Lightning module wraps it."
        )
    itself: nn.Module = model
    return itself


def output_layer(model: Any) -> nn.Module | None:
    """What turns hidden states into logits."""
    head: nn.Module | None = model.get_output_embeddings()
    return head


def backbone_of(model: Any) -> nn.Module | None:
    """What turns tokens into hidden states, where the model keeps it as a module of its own."""
    backbone = getattr(model, "base_model", None)
    return backbone if isinstance(backbone, nn.Module) and backbone is not model else None


def has_own_loss(model: nn.Module) -> bool:
    """Whether `model.loss_function` was set on the object, which is where transformers keeps it."""
    return hasattr(model, "_loss_function")


def check_attachable(model: nn.Module) -> nn.Linear:
    """The output layer of a model that a loss can be attached to.

    Raises:
        ConfigError: the model, or its output layer, is of a kind whose loss would not be exact.
    """
    name = type(model).__name__
    if "_tailkeep" in vars(model):
        raise ConfigError(f"{name} has a loss attached already. Call detach(model) first.")
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ConfigError(f"{name} is an encoder-decoder, whose labels are not shifted. {UNFUSED}")
    if has_own_loss(model):
        raise ConfigError(
            f"{name} has a loss_function set on the object, which the attached loss would replace without a word. "
            "Attach to a model without it, or keep it and do not attach."
        )
    head = output_layer(model)
    if head is None:
        raise ConfigError(f"{name} has no output layer: get_output_embeddings() is None. {UNFUSED}")
    for part in (model, head, backbone_of(model)):
        if part is not None and hasattr(part, "_hf_hook"):
            raise ConfigError(
                f"{type(part).__name__} has a device hook of accelerate (device_map or offload), which would pass the "
                f"loss by. Load the model without device_map, or train it unfused. {UNFUSED}"
            )
        if part is not None and "forward" in vars(part):
            raise ConfigError(
                f"the forward of {type(part).__name__} was replaced on the object, by another library or by "
                "Accelerator.prepare, which would pass the loss by. Call attach(model) before that."
            )
    if type(head) is not nn.Linear:
        raise ConfigError(
            f"the output layer is a {type(head).__module__}.{type(head).__name__}, not a plain torch.nn.Linear (LoRA, "
            f"modules_to_save and quantisation replace it). Leave the output layer out of those. {UNFUSED}"
        )
    if type(head.weight) is not nn.Parameter:
        raise ConfigError(
            f"the output layer's weight is a {type(head.weight).__name__}, not a plain parameter. Call attach(model) "
            f"before fully_shard. Under tensor parallelism or quantisation of the output layer: {UNFUSED}"
        )
    if head.weight.is_meta:
        raise ConfigError(f"{name} has no weights yet, it is on the meta device. Load them, then attach.")
    return head
