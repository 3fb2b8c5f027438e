"""The cross-entropies that others offer, each called as its own documentation does.

Rule: a rival is built when it is needed, so a package that is not installed costs one line of output. `exact` says that
its gradient is cross-entropy's up to rounding; gradient filtering, which leaves out small probabilities, is not.
"""

import inspect
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from loss_cost.inputs import Loss


class NotHereError(Exception):
    """What a rival needs is not here; the message says what."""


@dataclass(frozen=True)
class Rival:
    """`build` gives the loss, or raises `NotHereError` or ImportError."""

    name: str
    exact: bool
    build: Callable[[], Loss]
    devices: tuple[str, ...] = ("cpu", "cuda")


def eager(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """What model code does: logits, float32, cross-entropy."""
    return F.cross_entropy(F.linear(hidden, weight).float(), targets)


def _compiled() -> Loss:
    compilers = (os.environ.get("CXX", "c++"), "g++", "clang++")
    if not torch.cuda.is_available() and not any(map(shutil.which, compilers)):
        raise NotHereError("torch.compile needs a C++ compiler, such as g++")
    return torch.compile(eager, dynamic=False)


def torch_linear(*, chunked: bool, rows: int | None = None, reduction: str = "mean") -> Callable[[], Loss]:
    """PyTorch's own; with the reduction `none` its losses are (N,), in the type of the hidden states."""

    def build() -> Loss:
        if not hasattr(F, "linear_cross_entropy"):
            raise NotHereError(f"torch {torch.__version__} has no linear_cross_entropy, 2.13 and newer have")
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=rows) if chunked else None
        return lambda hidden, weight, targets: F.linear_cross_entropy(
            hidden, weight, targets, reduction=reduction, options=options
        )

    return build


def _cut(impl: str, **choices: object) -> Callable[[], Loss]:
    def build() -> Loss:
        from cut_cross_entropy import linear_cross_entropy

        # PyPI's 25.1.1 has the kernel and torch_compile alone; later versions, in its repository, can sum as Kahan did.
        if "kahan" in impl and "accum_c_fp32" not in inspect.signature(linear_cross_entropy).parameters:
            raise NotHereError(f"this cut_cross_entropy has no {impl}")
        return lambda hidden, weight, targets: linear_cross_entropy(hidden, weight, targets, impl=impl, **choices)

    return build


def _trl() -> Loss:
    from trl.kernels import ChunkedLogProbFunction

    def loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        # Temperature 1, tiles 32768 wide as SFTTrainer has them, no softcap, scale 1, log-probabilities alone.
        return -ChunkedLogProbFunction.apply(hidden, weight, None, targets, 1.0, 32768, None, 1.0, ())[0].mean()

    return loss


def _liger() -> Loss:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    fused = LigerFusedLinearCrossEntropyLoss()
    return lambda hidden, weight, targets: fused(weight, hidden, targets)


RIVALS = (
    Rival("eager", True, lambda: eager),
    Rival("torch.compile of eager", True, _compiled),
    Rival("torch linear_cross_entropy", True, torch_linear(chunked=False)),
    Rival("torch linear_cross_entropy, 256 rows", True, torch_linear(chunked=True, rows=256)),
    # On a CPU in float32 its own choice is 8 rows, ten times slower than 256.
    Rival("torch linear_cross_entropy, auto", True, torch_linear(chunked=True), ("cuda",)),
    Rival("cut-cross-entropy torch_compile", True, _cut("torch_compile")),
    Rival("cut-cross-entropy cce", False, _cut("cce"), ("cuda",)),
    Rival("cut-cross-entropy cce, no filter", True, _cut("cce", filter_eps=None), ("cuda",)),
    Rival("cut-cross-entropy cce_kahan_full_c", False, _cut("cce_kahan_full_c"), ("cuda",)),
    Rival("TRL chunked log-probabilities", True, _trl),
    Rival("Liger fused linear", True, _liger, ("cuda",)),
)
"""cut-cross-entropy's `cce` filters both gradients, `cce_kahan_full_c` that of the hidden states."""
