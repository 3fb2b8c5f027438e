"""The curve of a training run: what the loss does, read at evenly spaced optimizer steps.

Rule: when it is read depends on the step alone, so the sums are the same bytes in every run.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tailkeep.losses import read_stats
from tailkeep.runs import track_loop
from tailkeep.runs.training_curve import COLUMNS

CURVE_POINTS = 100
"""The most readings of a training run: each waits for the device."""
_MEANS = ("cross_entropy", "kept_fraction")


class CurveRecorder(TrainerCallback):
    """Adds up what the attached loss has seen, tells the log of it, and reports progress.

    `steps` are to be made, of which an earlier run has made `resumed`.
    """

    def __init__(self, steps: int, resumed: int = 0) -> None:
        self.targets = 0.0
        """How many targets were trained on."""
        self._sums = dict.fromkeys(_MEANS, 0.0)
        self.curve: dict[str, list[float]] = {name: [] for name in COLUMNS}
        self.tokens_per_second: list[float] = []
        """Between one reading and the next, as the curve."""
        self._steps = steps
        self._read_at = time.perf_counter()
        self._loop = track_loop(steps, "steps", resumed=resumed)
        self._loss: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, as plain numbers."""
        return {
            "targets": self.targets,
            "sums": self._sums,
            "curve": self.curve,
            "tokens_per_second": self.tokens_per_second,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where `state_dict` was called."""
        self.targets, self._sums = state["targets"], state["sums"]
        self.curve, self.tokens_per_second = state["curve"], state["tokens_per_second"]

    def mean(self, name: str) -> float:
        """The mean over all targets: `cross_entropy` in nats/token, or `kept_fraction`."""
        return self._sums[name] / self.targets

    def read(self, model: Any) -> dict[str, float]:
        """The means since the last reading, by name, and the number of `targets`; empty if there was none."""
        stats = read_stats(model)
        if stats:
            self.targets += stats["targets"]
            for name in _MEANS:
                self._sums[name] += stats[name] * stats["targets"]
        return {name: stats[name] for name in ("targets", *_MEANS)} if stats else {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock of the first reading."""
        del args, state, control, kwargs
        self._read_at = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Log the last step too, and stop where an estimate has measured enough."""
        del args, kwargs
        control.should_log |= state.global_step >= self._steps
        if not control.should_log:
            self._loop.advance(loss=self._loss)
        control.should_training_stop |= self._loop.enough

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Add what the loss did to `logs`, and to the history that already holds a copy of them."""
        del args, kwargs
        # The summary at the end is logged too; training alone has a "loss".
        if logs is None or "loss" not in logs:
            return
        stats = self.read(model)
        means = {name: stats.get(name, math.nan) for name in _MEANS}
        logs.update(means)
        state.log_history[-1].update(means)
        point = {**logs, "step": state.global_step}
        for name in COLUMNS:
            self.curve[name].append(point[name])
        now = time.perf_counter()
        self.tokens_per_second.append(stats.get("targets", 0.0) / (now - self._read_at))
        self._read_at = now
        self._loss = logs["loss"]
        self._loop.advance(amount=int(stats.get("targets", 0)), loss=self._loss)
        control.should_training_stop |= self._loop.enough
