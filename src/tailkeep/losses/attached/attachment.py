"""What an attached model carries besides its weights.

Rule: plain data without references to modules, so that copies and pickles of a model have their own.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tailkeep.losses.attached.monitor import Monitor
from tailkeep.losses.linear import LossStats
from tailkeep.losses.weighting import Weighting


@dataclass(frozen=True)
class Transformation:
    """What a model does to the logits z of its output layer: scale * z, then softcap * tanh(z / softcap) if it has one.

    Only the first `vocab_size` logits count, where a model cuts off those that pad the vocabulary.
    """

    scale: float = 1.0
    softcap: float | None = None
    vocab_size: int | None = None

    def __str__(self) -> str:
        parts = [] if self.scale == 1 else [f"scale {self.scale:g}"]
        parts += [] if self.softcap is None else [f"softcap {self.softcap:g}"]
        parts += [] if self.vocab_size is None else [f"first {self.vocab_size}"]
        return ", ".join(parts) or "identity"


@dataclass
class Attachment:
    """The loss of one model, shared by its attached modules. `plain` counts the `plain` contexts it is in."""

    weighting: Weighting
    transformation: Transformation
    impl: str
    monitor: Monitor
    plain: int = 0

    def __getstate__(self) -> dict[str, Any]:
        # A copy made within `plain` would never leave it.
        return {**vars(self), "plain": 0}


@dataclass
class Call:
    """One training call: targets (B, T) on their way to the output layer, losses (B, T, 1) on their way back.

    `items` is what the sum of the losses is divided by.
    """

    targets: Tensor
    ignore_index: int
    items: Tensor
    weighting: Weighting
    losses: Tensor | None = None
    stats: LossStats | None = None
