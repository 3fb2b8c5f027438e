"""What an attached model carries besides its weights: the loss, its statistics, the transformation of its logits.

Rule: plain data without references to modules, so that copies and pickles of a model have their own. Statistics are
sums on the device with one synchronisation per reading; a training step waits for them once in a hundred.
"""

import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tailkeep.losses.nll import LossStats
from tailkeep.losses.terms import LossTerms
from tailkeep.losses.weighting import Weighting

PATIENCE = 100
"""Training calls in a row without a truncated token, after which truncation is said to do nothing."""

_NAMES = ("kept_fraction", "cross_entropy", "confidence", "accuracy")
_ONE_AT_A_TIME = threading.Lock()
"""Of the threads that train one model; it is no part of the model, which can be copied and pickled."""


@dataclass
class Monitor:
    """Sums over this process's valid targets; `truncates` says whether a kept fraction of 1 is worth a warning."""

    truncates: bool
    sums: Tensor | None = None
    streak: Tensor | None = None
    calls: int = 0
    warned: bool = False

    def add(self, stats: LossStats) -> None:
        """Count one training call."""
        # Float32 counts no further than 2^24 targets, and Apple's GPUs have nothing wider.
        wide = torch.float32 if stats.targets.device.type == "mps" else torch.float64
        targets = stats.targets.to(wide)
        means = torch.stack([getattr(stats, name).to(wide) for name in _NAMES])
        # The means of no target are NaN and count for nothing; those of a broken model are NaN too, and show.
        row = torch.cat([torch.where(targets > 0, means * targets, 0), targets.view(1)])
        with _ONE_AT_A_TIME:
            self.sums = row if self.sums is None else self.sums.to(row.device) + row
            if self.truncates and not self.warned:
                self._watch(stats.kept_fraction, targets)

    def read(self) -> dict[str, float]:
        """The means since the last reading, which are forgotten; nothing if no target was seen."""
        with _ONE_AT_A_TIME:
            sums, self.sums = self.sums, None
        if sums is None:
            return {}
        *totals, targets = sums.tolist()
        means = {name: total / targets for name, total in zip(_NAMES, totals, strict=True)} if targets else {}
        return means | ({"targets": targets} if targets else {})

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a resumed run has the statistics of an uninterrupted one."""
        return {name: getattr(self, name) for name in ("sums", "streak", "calls", "warned")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where `state_dict` was called."""
        for name in ("sums", "streak", "calls", "warned"):
            setattr(self, name, state[name])

    def _watch(self, kept_fraction: Tensor, targets: Tensor) -> None:
        streak = torch.zeros_like(targets) if self.streak is None else self.streak.to(targets.device)
        self.streak = torch.where(targets > 0, (streak + 1) * (kept_fraction == 1), streak)
        self.calls += 1
        if self.calls % PATIENCE == 0 and self.streak.item() >= PATIENCE:
            self.warned = True
            warnings.warn(
                f"No token was truncated in {PATIENCE} training calls, so the attached loss is plain cross-entropy so "
                "far. Lower the threshold, or wait if the model is only beginning to learn.",
                UserWarning,
                stacklevel=2,
            )


@dataclass(frozen=True)
class Transformation:
    """What a model does to the logits z of its output layer: scale * z, then softcap * tanh(z / softcap) if it has one.

    Only the first `vocab_size` logits count, where a model cuts off those that pad the vocabulary.
    """

    scale: float = 1.0
    softcap: float | None = None
    vocab_size: int | None = None


@dataclass
class Attachment:
    """The loss of one model, shared by its attached modules.

    `settings` are those of the model's configuration that may change its logits, as they were measured; `bypasses` are
    the threads of the `without_attached_loss` contexts that are open.
    """

    weighting: Weighting
    terms: LossTerms
    transformation: Transformation
    impl: str
    monitor: Monitor
    settings: dict[str, Any] = field(default_factory=dict)
    bypasses: list[int] = field(default_factory=list)

    def is_bypassed(self) -> bool:
        """Whether this thread is within `without_attached_loss`; a graph of torch.compile cannot know its thread."""
        return bool(self.bypasses) and (torch.compiler.is_compiling() or threading.get_ident() in self.bypasses)

    def __getstate__(self) -> dict[str, Any]:
        # A copy made within `without_attached_loss` would never leave it.
        return {**vars(self), "bypasses": []}


@dataclass
class Call:
    """One training call: targets (B, T) on their way to the output layer, losses (B, T, 1) on their way back.

    `items` is what the sum of the losses is divided by, `initial_nll` (B,) what a loss that judges sequences compares,
    `computed` the losses before any hook of the output layer.
    """

    targets: Tensor
    ignore_index: int
    items: Tensor
    weighting: Weighting
    terms: LossTerms
    initial_nll: Tensor | None = None
    computed: Tensor | None = None
    losses: Tensor | None = None
    stats: LossStats | None = None
