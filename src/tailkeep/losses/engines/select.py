"""Which engine computes a loss, and why. Rule: `auto` never picks one that would refuse; a named one refuses aloud."""

import os
from importlib.util import find_spec
from typing import Literal, TypeAlias, get_args

from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.engines.chunked import Chunked
from tailkeep.losses.engines.reference import Engine, Reference
from tailkeep.optional import require

Implementation: TypeAlias = Literal["auto", "reference", "chunked", "triton"]
IMPLEMENTATIONS: tuple[str, ...] = get_args(Implementation)


def select_engine(impl: str, hidden: Tensor) -> tuple[Engine, str]:
    """The engine for `impl`, and the reason in a sentence.

    Raises:
        ConfigError: an unknown name, or an engine that cannot compute this.
        MissingPackageError: an engine whose package is not installed.
    """
    reason = f"{impl}: requested by name."
    if impl == "auto":
        impl, reason = _best(hidden)
    match impl:
        case "reference":
            return Reference(), reason
        case "chunked":
            return Chunked(), reason
        case "triton":
            return _triton(hidden), reason
    raise ConfigError(f"impl {impl!r} is unknown. Use one of {', '.join(IMPLEMENTATIONS)}.")


def _best(hidden: Tensor) -> tuple[str, str]:
    device = hidden.device.type
    if device != "cuda":
        return "chunked", f"chunked: hidden is on {device}, and triton needs a CUDA device."
    if find_spec("triton") is None:
        return "chunked", "chunked: triton is not installed; pip install 'tailkeep[triton]' brings the faster kernels."
    return "triton", "triton: hidden is on a CUDA device, and triton is installed."


def _triton(hidden: Tensor) -> Engine:
    if hidden.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ConfigError(
            f"impl 'triton' needs a CUDA device, and hidden is on {hidden.device}. Use impl='chunked'; only tests set "
            "TRITON_INTERPRET=1, which runs the kernels on a CPU very slowly."
        )
    require("triton", extra="triton")
    from tailkeep.losses.engines.triton import TritonOps

    return Chunked(logit_ops=TritonOps())
