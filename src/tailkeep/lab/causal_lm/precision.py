"""The number formats in which a language model trains, is scored and decodes.

Rule: `auto` follows from the processor and the model, never from a timing. bfloat16 means autocast over float32
weights. On a CPU it pays where matrix products in bfloat16 are native (AVX512-BF16, AMX) and the model is large enough
for them to be its cost; decoding one token at a time is faster in float32 there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch

from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.config import DTypes
from tailkeep.scoring.prior import has_native_bfloat16

Phase = Literal["train", "score", "decode"]
PHASES: tuple[Phase, ...] = ("train", "score", "decode")
MIN_CPU_PARAMETERS = 10_000_000
"""A smaller model stays in float32 on a CPU: its products are no larger than what casting them costs."""


@dataclass(frozen=True)
class Precision:
    """Whether each phase runs in bfloat16; else it runs in float32. `device` is `cpu` or `cuda`."""

    device: str = "cpu"
    train: bool = False
    score: bool = False
    decode: bool = False

    @contextmanager
    def autocast(self, phase: Phase) -> Iterator[None]:
        """Compute in the format of `phase` inside."""
        with torch.autocast(self.device, torch.bfloat16, enabled=getattr(self, phase)):
            yield


def resolve_precision(dtypes: DTypes, *, device: str, num_parameters: int) -> Precision:
    """The precision of a model of `num_parameters` on `device`, `cpu` or `cuda`.

    Raises:
        ConfigError: bfloat16 by name where it is not native.
    """
    native = has_native_bfloat16(device)
    automatic: dict[Phase, bool] = dict.fromkeys(PHASES, native)
    if device == "cpu":
        large = native and num_parameters >= MIN_CPU_PARAMETERS
        automatic = {"train": large, "score": large, "decode": False}
    for phase in PHASES:
        if getattr(dtypes, phase) == "bfloat16" and not native:
            raise ConfigError(f"dtype.{phase} is bfloat16, but this {device} has none. Use auto or float32.")
    choices = {
        phase: automatic[phase] if getattr(dtypes, phase) == "auto" else getattr(dtypes, phase) == "bfloat16"
        for phase in PHASES
    }
    return Precision(device, **choices)


def count_parameters(network: Any) -> int:
    """The number of weights of `network`, shared ones once."""
    return sum(weights.numel() for weights in network.parameters())
