"""What no loss can use, refused before any arithmetic: values of another type, outside their range, or transformed.

Rule: one sentence each, with the name of the argument, the value received and what to pass instead. None of them waits
for a GPU.
"""

from numbers import Integral, Rational, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailkeep.errors import ConfigError


def check_number(name: str, value: Any, interval: str, advice: str) -> None:
    """Refuse what is no number, of Python or numpy, in `interval`, such as "(0, 1]".

    Raises:
        ConfigError: it is not; `advice` says what to pass.
    """
    # torch calculates with no fractions, which are real and rational.
    if not is_whole_number(value) and (not isinstance(value, Real) or isinstance(value, Rational)):
        _check_no_array_in_graph(name, value)
        raise ConfigError(f"{name} {value!r} is a {type(value).__name__}, not a number. {advice}")
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value > low if interval[0] == "(" else value >= low
    if not (above and (value < high if interval[-1] == ")" else value <= high)):
        raise ConfigError(f"{name} {value} is not in {interval}. {advice}")


def check_whole_number(name: str, value: Any, least: int | None, advice: str) -> None:
    """Refuse what is no whole number, of Python or numpy, of at least `least`.

    Raises:
        ConfigError: it is not; `advice` says what to pass.
    """
    if not is_whole_number(value):
        _check_no_array_in_graph(name, value)
        raise ConfigError(f"{name} {value!r} is a {type(value).__name__}, not a whole number. {advice}")
    if least is not None and value < least:
        raise ConfigError(f"{name} {value} is below {least}. {advice}")


def _check_no_array_in_graph(name: str, value: object) -> None:
    # To torch.compile a number of numpy is an array without a value, which cannot be shown either.
    if torch.compiler.is_compiling() and isinstance(value, np.ndarray):
        raise ConfigError(
            f"{name} is a number of numpy, whose value torch.compile does not know. Give a Python number, as of "
            f"{name}.item(), outside the compiled function."
        )


def is_whole_number(value: object) -> bool:
    """Whether `value` is a whole number, of Python or numpy; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_ignore_index(ignore_index: object) -> None:
    """Refuse what is no class index.

    Raises:
        ConfigError: it is no whole number, or none that an int64 holds.
    """
    advice = "Leave it at -100 where no class is to be ignored."
    check_whole_number("ignore_index", ignore_index, None, advice)
    limits = torch.iinfo(torch.int64)
    check_number("ignore_index", ignore_index, f"[{limits.min}, {limits.max})", advice)


def check_tensors(**tensors: object) -> None:
    """Refuse lists, arrays, None, and sparse or nested tensors where a dense tensor belongs.

    Raises:
        ConfigError: one of `tensors`, by name, is no dense tensor.
    """
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ConfigError(f"{name} is a {type(value).__name__}, not a torch.Tensor. Give torch.as_tensor({name}).")
        if value.layout != torch.strided:
            raise ConfigError(f"{name} is a {value.layout} tensor. Give a dense one, as of {name}.to_dense().")


def check_count(num_items: object) -> None:
    """Refuse what counts no targets; a tensor on a GPU is taken as it is, since a look at it would wait for the device.

    So is one in a graph of torch.compile, which knows no values.

    Raises:
        ConfigError: no number, or one that is below 0 or not finite.
    """
    if isinstance(num_items, Tensor) and (num_items.device.type != "cpu" or torch.compiler.is_compiling()):
        return
    try:
        counts = torch.as_tensor(num_items)
        is_number = counts.dtype != torch.bool and not isinstance(num_items, list | tuple)
        is_count = is_number and bool((counts.ge(0) & counts.isfinite()).all())
    except (TypeError, RuntimeError, ValueError):
        is_count = False
    if not is_count:
        raise ConfigError(
            f"num_items {num_items!r} is not a count. Give the valid targets of the whole step; where ranks average "
            "gradients, those of all ranks divided by their number."
        )


def check_no_transform() -> None:
    """Refuse torch.func.grad, vmap, jvp and the like, whose tensors the chunks cannot see.

    Raises:
        ConfigError: one is active.
    """
    # torch.autograd.Function asks the first, forward-mode differentiation the second.
    if torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
        raise ConfigError(
            "a fused loss was called inside a torch.func transform (grad, vmap, jvp) or forward-mode differentiation, "
            f"which it cannot go through. {_ONE_BY_ONE}"
        )


def check_not_batched(*upstream: Tensor | None) -> None:
    """Refuse several upstream gradients at once, as of `is_grads_batched=True` and of `vectorize=True`.

    Raises:
        ConfigError: one is a batch of them.
    """
    if any(gradient is not None and torch._C._functorch.is_legacy_batchedtensor(gradient) for gradient in upstream):
        raise ConfigError(
            f"a fused loss got several upstream gradients at once (is_grads_batched, vectorize). {_ONE_BY_ONE}"
        )


_ONE_BY_ONE = (
    "Use torch.autograd.grad for one upstream gradient at a time, with create_graph=True for second order, or a loss "
    "on the logits."
)
