"""Models whose parameters DeepSpeed has partitioned (ZeRO stage 3), while `attach` runs them.

Under `zero.Init` each weight has the shape (0,) until it is gathered. The engine of `deepspeed.initialize` does that in
hooks of its modules; before there is an engine, `gathered` does. Rule: a module's weights are gathered for its own call
alone, those of the output layer until the end, since a backward pass comes back to it.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


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
    def gather(module: nn.Module, args: Any) -> None:
        del args
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
    def release(module: nn.Module, args: Any, output: Any) -> None:
        del module, args, output
        calls.pop().close()

    return release


def _is_missing(parameter: Any) -> bool:
    return is_partitioned(parameter) and parameter.ds_status.name == "NOT_AVAILABLE"
