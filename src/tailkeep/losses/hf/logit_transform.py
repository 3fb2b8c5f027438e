"""The output layer of a model and what the model does to its logits, measured instead of read from its configuration.

The model runs once with synthetic logits in place of those of its output layer, over five amplitudes and both signs.
Rule: the result is a factor, or a factor and a tanh cap, to float32 precision at every amplitude, or the model is
refused before anything is changed.
"""

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tailkeep.errors import ConfigError
from tailkeep.losses.hf.output_layer import computing_module, is_partitioned, linear_in, unsupported
from tailkeep.losses.hf.state import Transformation
from tailkeep.losses.sequences import evaluation_mode

UNFUSED = (
    "Compute the loss from the logits instead, as in "
    "Trainer(compute_loss_func=...) with tailkeep.losses.truncated_cross_entropy on shifted labels."
)


def causal_lm(model: Any) -> nn.Module:
    """The language model itself: what PEFT wraps, or `model`.

    Raises:
        ConfigError: the module has no `get_output_embeddings`.
    """
    if hasattr(model, "_orig_mod"):
        raise ConfigError("the model is compiled already. Call attach(model) first, then torch.compile(model).")
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
    """What turns hidden states into logits; of a layer that PEFT wraps, the module that does."""
    head: nn.Module | None = model.get_output_embeddings()
    return None if head is None else computing_module(head)


def backbone_of(model: Any) -> nn.Module | None:
    """What turns tokens into hidden states, where the model keeps it as a module of its own."""
    backbone = getattr(model, "base_model", None)
    return backbone if isinstance(backbone, nn.Module) and backbone is not model else None


def logit_settings(model: nn.Module) -> dict[str, Any]:
    """The entries of the model's configuration whose names say that they change logits, such as a cap."""
    config = getattr(model, "config", None)
    entries = {} if config is None else {**vars(config), **vars(getattr(config, "text_config", None) or config)}
    return {name: value for name, value in entries.items() if "logit" in name or "lm_head" in name}


def has_own_loss(model: nn.Module) -> bool:
    """Whether `model.loss_function` was set on the object, which is where transformers keeps it."""
    return hasattr(model, "_loss_function")


def check_attachable(model: nn.Module) -> nn.Module:
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
    reason = unsupported(head)
    if reason is not None:
        raise ConfigError(f"{reason}. Leave the output layer out of quantisation and other adapters. {UNFUSED}")
    linear = linear_in(head)
    weight = linear.weight
    if type(weight) is not nn.Parameter:
        raise ConfigError(
            f"the output layer's weight is a {type(weight).__name__}, not a plain parameter. Call attach(model) "
            f"before fully_shard. Under tensor parallelism or quantisation of the output layer: {UNFUSED}"
        )
    if is_partitioned(weight) and linear is not head:
        raise ConfigError(
            "the output layer has an adapter, and DeepSpeed (ZeRO 3) would not gather its weights for the fused loss. "
            "Leave the output layer out of the adapters, or use modules_to_save."
        )
    # PEFT swaps both numbers of a layer that it ties to the embedding (ensure_weight_tying); the weight is right.
    if {*weight.shape} != {linear.out_features, linear.in_features} and not is_partitioned(weight):
        raise ConfigError(
            f"the output layer's weight has the shape {tuple(weight.shape)}, not ({linear.out_features}, "
            f"{linear.in_features}): it is split over processes (FSDP, DeepSpeed). "
            "Call attach(model) before the model is wrapped."
        )
    if weight.is_meta:
        raise ConfigError(f"{name} has no weights yet, it is on the meta device. Load them, then attach.")
    return head


BATCH, LENGTH = 2, 8
_AMPLITUDES = (0.125, 1.0, 8.0, 48.0, 384.0)
_TOLERANCE = 1e-5


def tiny_batch(model: Any, head: Any) -> Tensor:
    """(2, 8) token ids that are none of the configuration's special tokens."""
    embedding = model.get_input_embeddings()
    num_logits = len(linear_in(head).weight)
    size = min(getattr(embedding, "num_embeddings", num_logits), num_logits)
    special = {
        token
        for name in ("pad_token_id", "bos_token_id", "eos_token_id")
        for token in _listed(getattr(getattr(model, "config", None), name, None))
    }
    usable = [token for token in range(min(size, 64)) if token not in special] or [0]
    picked = [usable[(7 * i + 3) % len(usable)] for i in range(BATCH * LENGTH)]
    device = head.weight.device if not isinstance(embedding, nn.Embedding) else embedding.weight.device
    return torch.tensor(picked, device=device).view(BATCH, LENGTH)


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within; every module's mode and the random state as they were, after."""
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with evaluation_mode(model), torch.random.fork_rng(devices=devices):
        yield


def without_cache(forward: Callable[..., Any]) -> dict[str, Any]:
    """The argument that keeps `forward` from filling a cache; none if it takes none, as masked models do not."""
    parameters = inspect.signature(forward).parameters
    takes = "use_cache" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {"use_cache": False} if takes else {}


def transformation_of(model: nn.Module, head: Any) -> Transformation:
    """The transformation between `head` and the model's logits.

    Raises:
        ConfigError: one that the fused losses do not have, or a model that does not call its output layer once.
    """
    calls: list[tuple[int, ...]] = []
    name = type(model).__name__

    def replace(_module: nn.Module, _args: Any, logits: Tensor) -> Tensor:
        calls.append(tuple(logits.shape[:-1]))
        return _made_up(logits)

    tokens = tiny_batch(model, head)
    handle = head.register_forward_hook(replace)

    def run() -> Tensor:
        output: Tensor = model(input_ids=tokens, return_dict=True, **without_cache(model.forward)).logits
        return output

    try:
        with undisturbed(model):
            # Only a parameter of neither can be learned behind the output layer; without one no graph is made.
            with torch.set_grad_enabled(_learns_outside(model, head)):
                logits = run()
            with torch.no_grad(), _training_mode_of_shell(model, head):
                in_training = run()
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        error.add_note(f"attach ran {name} on 2 x 8 tokens alone, which it must be able to do. {UNFUSED}")
        raise
    finally:
        handle.remove()
    if calls != [tuple(tokens.shape)] * 2:
        raise ConfigError(
            f"{name} called its output layer with positions {calls[: -(-len(calls) // 2)]} for tokens "
            f"{tuple(tokens.shape)}, not once with all of them. {UNFUSED}"
        )
    raw_logits = _made_up(logits.new_empty((BATCH, LENGTH, len(linear_in(head).weight))))
    transformation = _recognised(name, logits.detach(), raw_logits)
    if logits.requires_grad:
        raise ConfigError(
            f"{name} learns a parameter behind its output layer, which the fused loss would not train. {UNFUSED}"
        )
    if not torch.equal(logits, in_training):
        raise ConfigError(
            f"{name} makes other logits of the same output in training mode than in evaluation mode. {UNFUSED}"
        )
    return transformation


def _shell(model: nn.Module, head: nn.Module) -> list[nn.Module]:
    """The modules that belong neither to the output layer nor to the backbone."""
    inner = {id(part) for root in (head, backbone_of(model)) if root is not None for part in root.modules()}
    return [module for module in model.modules() if id(module) not in inner]


def _learns_outside(model: nn.Module, head: nn.Module) -> bool:
    """Whether a parameter of the shell requires a gradient."""
    return any(one.requires_grad for module in _shell(model, head) for one in module.parameters(recurse=False))


@contextlib.contextmanager
def _training_mode_of_shell(model: nn.Module, head: nn.Module) -> Iterator[None]:
    """Training mode of the shell, or of the model itself if no backbone is known, whose statistics must not move."""
    shell = [model] if backbone_of(model) is None else _shell(model, head)
    shell = [module for module in shell if not module.training]
    try:
        for module in shell:
            module.training = True
        yield
    finally:
        for module in shell:
            module.training = False


def _made_up(logits: Tensor) -> Tensor:
    """One amplitude a position, in float32, the sign changing along the vocabulary."""
    sizes = torch.tensor(_AMPLITUDES, device=logits.device)
    positions = torch.arange(logits.shape[0] * logits.shape[1], device=logits.device) % len(_AMPLITUDES)
    signs = 1 - 2 * (torch.arange(logits.shape[2], device=logits.device) % 2)
    return sizes[positions].view(*logits.shape[:2], 1) * signs


def _recognised(name: str, logits: Tensor, raw_logits: Tensor) -> Transformation:
    cut = logits.shape[-1]
    if logits.shape[:-1] != raw_logits.shape[:-1] or cut > raw_logits.shape[-1]:
        raise ConfigError(f"{name} makes logits {tuple(logits.shape)} of {tuple(raw_logits.shape)}. {UNFUSED}")
    vocab_size = None if cut == raw_logits.shape[-1] else cut
    got, expected_logits = logits.double().cpu(), raw_logits[..., :cut].double().cpu()
    by_size = {size: float(got[expected_logits == size].mean()) for size in _AMPLITUDES}
    scale, softcap = _fitted(by_size)
    expected = scale * expected_logits
    if softcap is not None:
        expected = softcap * torch.tanh(expected / softcap)
    if scale == 0 or not bool(((got - expected).abs() <= _TOLERANCE * expected.abs()).all()):
        raise ConfigError(
            f"{name} changes the logits of its output layer in a way that is neither a factor nor a tanh cap. {UNFUSED}"
        )
    return Transformation(scale, softcap, vocab_size)


def _fitted(by_size: dict[float, float]) -> tuple[float, float | None]:
    """Scale and cap from the outputs at each amplitude; nonsense in, nonsense out, which the caller then sees."""
    low, high = _AMPLITUDES[0], _AMPLITUDES[-1]
    scale = by_size[low] / low
    if not math.isfinite(scale) or scale == 0 or abs(by_size[high] / high - scale) <= _TOLERANCE * abs(scale):
        return (_rounded(scale) if math.isfinite(scale) else 0.0), None
    softcap = math.inf
    for _ in range(20):
        softcap = _cap(by_size[high], scale * high)
        if not 0 < softcap < math.inf or abs(by_size[low]) >= softcap:
            return scale, None
        scale = softcap * math.atanh(by_size[low] / softcap) / low
    return _rounded(scale), _rounded(softcap)


def _cap(capped: float, z: float) -> float:
    """The cap with cap * tanh(z / cap) = capped, by bisection: the left side rises with the cap, from 0 to z."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        if middle * math.tanh(abs(z) / middle) < abs(capped):
            low = middle
        else:
            high = middle
    return high


def _rounded(value: float) -> float:
    """`value` rounded to 5 digits, as a configuration would hold it, if float32 cannot distinguish the two."""
    short = float(f"{value:.5g}")
    return short if abs(short - value) <= 2e-7 * abs(value) else value


def _listed(tokens: int | list[int] | None) -> list[int]:
    return [] if tokens is None else [tokens] if isinstance(tokens, int) else list(tokens)
