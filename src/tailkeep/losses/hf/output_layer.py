"""The output layer of a model under PEFT and under DeepSpeed's ZeRO stage 3: which module computes, with which weights.

    modules_to_save             a copy of the layer, trained as a whole: an ordinary nn.Linear
    trainable_token_indices     W with some rows replaced, as where the output layer is tied to trained embeddings
    LoRA                        W + s B A: the product of low rank is added chunk by chunk, W is never copied

Rules: the fused loss multiplies what the layer's own forward would, in the same state: adapters that are disabled or
merged have no part, and what is not known is refused. PEFT is never imported. Under `zero.Init` each weight has the
shape (0,) until it is gathered, for its module's call alone; those of the output layer until the end, since a backward
pass comes back to it.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from tailkeep.errors import AttachmentError
from tailkeep.losses.lm_head import LowRankProduct

_MODULES_TO_SAVE = "peft.utils.other.ModulesToSaveWrapper"
_TOKENS_WRAPPER = "peft.utils.other.TrainableTokensWrapper"
_TOKENS = "peft.tuners.trainable_tokens.layer.TrainableTokensLayer"
_LORA = "peft.tuners.lora.layer.Linear"


def computing_module(layer: nn.Module) -> nn.Module:
    """The module in `layer` that computes the logits in its present state: itself, or what PEFT's wrapper calls."""
    wrapper: Any = layer
    match _kind(layer):
        case name if name == _MODULES_TO_SAVE:
            if wrapper.disable_adapters or not wrapper.active_adapters:
                original: nn.Module = wrapper.original_module
                return original
            active: nn.Module = wrapper.modules_to_save[wrapper.active_adapters[0]]
            return active
        case name if name == _TOKENS_WRAPPER:
            tokens: nn.Module = wrapper.token_adapter
            return tokens
    return layer


def linear_in(module: nn.Module) -> Any:
    """What `module` adapts, which has to be a linear layer, or `module` itself."""
    return module.base_layer if _kind(module) in (_TOKENS, _LORA) else module


def unsupported(module: nn.Module) -> str | None:
    """Why `module` has other weights than W, W with rows replaced, or W + s B A; None if it has none."""
    linear = linear_in(module)
    if type(linear) is not nn.Linear:
        kinds = dict.fromkeys(f"{type(part).__module__}.{type(part).__name__}" for part in (module, linear))
        return f"the output layer is a {' around a '.join(kinds)}, not a torch.nn.Linear or LoRA around one"
    return _variant(module)


def _variant(module: Any) -> str | None:
    if _kind(module) != _LORA or module.disable_adapters or module.merged:
        return None
    kinds = [type(module.lora_variant[name]).__name__ for name in module.active_adapters if name in module.lora_variant]
    return f"LoRA on the output layer is a {kinds[0]}, which is more than W + s B A" if kinds else None


def weights_of(module: nn.Module, hidden: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor | None, Any]:
    """Weight (V, D), bias (V,) or None, and a `LowRankProduct` or None, with which `module` would treat `hidden`.

    Args:
        module: what `computing_module` gave.
        hidden: (..., D), its input.
        options: keyword arguments of its call.

    Raises:
        AttachmentError: adapters that differ from row to row, or of a kind that is not known.
    """
    if options:
        raise AttachmentError(
            f"The output layer was called with {', '.join(options)}, which the attached loss does not know. Train with "
            "one set of adapters for all rows, or call detach(model) and compute the loss from the logits."
        )
    reason = _variant(module)
    if reason is not None:
        raise AttachmentError(f"{reason}. Leave the output layer out of it, or call detach(model).")
    linear, kind, adapted = linear_in(module), _kind(module), cast("Any", module)
    if kind not in (_TOKENS, _LORA) or adapted.disable_adapters or adapted.merged or not adapted.active_adapters:
        return linear.weight, linear.bias, None
    if kind == _TOKENS:
        return adapted.get_merged_weights(adapted.active_adapters), None, None  # as PEFT, which leaves out the bias
    return _with_lora(adapted, linear, hidden)


def check_weight(weight: Tensor, instead: str) -> None:
    """Refuse what became of the output layer's weight after `attach`, and say what to do `instead`.

    Raises:
        AttachmentError: it is split over devices or processes, or of another kind.
    """
    if hasattr(weight, "placements"):
        raise AttachmentError(f"The output layer is split over devices (tensor parallel), its loss is not. {instead}")
    if weight.ndim != 2:
        raise AttachmentError(
            f"The output layer's weight has the shape {tuple(weight.shape)}: it is split over processes and was "
            "not gathered. Call the wrapper (the engine of deepspeed.initialize, FSDP) and not the model in it; under "
            "DeepSpeed ZeRO 3 leave the output layer out of LoRA."
        )
    if type(weight) not in (Tensor, nn.Parameter):
        raise AttachmentError(
            f"The output layer's weight became a {type(weight).__name__} after attach, as quantisation does. "
            f"Leave the output layer out of it. {instead}"
        )


def _with_lora(layer: Any, linear: Any, hidden: Tensor) -> tuple[Tensor, Tensor | None, LowRankProduct | None]:
    lows, ups, bias = [], [], linear.bias
    for name in layer.active_adapters:
        if name not in layer.lora_A:
            continue
        down, up, scaling = layer.lora_A[name], layer.lora_B[name], layer.scaling[name]
        inputs = layer.lora_dropout[name](hidden.to(down.weight.dtype))
        lows.append((down(inputs) * scaling).to(hidden.dtype))
        ups.append(up.weight.to(hidden.dtype))
        if up.bias is not None:
            bias = up.bias * scaling if bias is None else bias + up.bias * scaling
    low_rank = LowRankProduct(torch.cat(lows, -1), torch.cat(ups, 1)) if lows else None
    return linear.weight, None if bias is None else bias.to(hidden.dtype), low_rank


def _kind(module: nn.Module) -> str:
    """Module and name of the class, which is that before `attach`."""
    own_class = getattr(type(module), "_tailkeep_class", (type(module),))[0]
    return f"{own_class.__module__}.{own_class.__qualname__}"


def is_partitioned(weight: Tensor) -> bool:
    """Whether DeepSpeed can gather `weight`."""
    return hasattr(weight, "ds_id")


@contextlib.contextmanager
def gathered(model: nn.Module, head: nn.Module) -> Iterator[None]:
    """Within, every module of `model` has whole weights when it is called. Every process has to enter."""
    modules = [m for m in model.modules() if any(map(is_partitioned, m.parameters(recurse=False)))]
    if not modules:
        yield
        return
    head_ids = {id(parameter) for parameter in head.parameters()}
    with contextlib.ExitStack() as until_the_end:
        for module in modules:
            calls: list[contextlib.ExitStack] = []
            handles = (
                module.register_forward_pre_hook(_gathering(calls, until_the_end, head_ids)),
                module.register_forward_hook(_releasing(calls), always_call=True),
            )
            for handle in handles:
                until_the_end.callback(handle.remove)
        yield


def _gathering(calls: list[contextlib.ExitStack], until_the_end: contextlib.ExitStack, head_ids: set[int]) -> Any:
    def gather(module: nn.Module, _args: Any) -> None:
        # An engine's own hooks come first and have gathered already.
        missing: list[Any] = [p for p in module.parameters(recurse=False) if _is_missing(p)]
        calls.append(contextlib.ExitStack())
        for stack, some in (
            (until_the_end, [p for p in missing if id(p) in head_ids]),
            (calls[-1], [p for p in missing if id(p) not in head_ids]),
        ):
            if some:
                from deepspeed.runtime.zero import GatheredParameters

                stack.enter_context(GatheredParameters(some))

    return gather


def _releasing(calls: list[contextlib.ExitStack]) -> Any:
    def release(_module: nn.Module, _args: Any, _output: Any) -> None:
        calls.pop().close()

    return release


def _is_missing(parameter: Any) -> bool:
    return is_partitioned(parameter) and parameter.ds_status.name == "NOT_AVAILABLE"
