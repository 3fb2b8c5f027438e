"""Truncations whose threshold moves on once per micro-batch.

Rule: a threshold is fixed while a micro-batch is weighed, and moves when that is over. So all tokens of a micro-batch
meet the same threshold, in whatever parts it is computed. Validation, without gradients, moves nothing. Each process
moves by its own micro-batches; with several, thresholds differ a little from rank to rank.
"""

import math
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from tailkeep.losses.checks import check_number, check_whole_number
from tailkeep.losses.truncation import check_threshold, truncation_mask
from tailkeep.losses.weighting import MicroBatchCount, State, Weighting, check_state
from tailkeep.losses.weightings import check_fraction, check_window

_MOST_TOKENS = 8192
"""Tokens that are stored per micro-batch: 16 micro-batches then estimate a share to 0.15 % (one standard error)."""


class Rule(State, Protocol):
    """How a threshold moves."""

    @property
    def threshold(self) -> float:
        """The threshold of the next micro-batch, in (0, 1]."""
        ...

    def observe(self, nll: Tensor) -> None:
        """See the (N,) NLL of a micro-batch, N possibly 0."""
        ...


@dataclass(frozen=True)
class AdaptiveTruncation(Weighting):
    """Truncated cross-entropy at a threshold that `state` moves. Direction: spares high-confidence tokens."""

    state: Rule = field(kw_only=True)

    @property
    def threshold(self) -> float:
        """The threshold of the next micro-batch."""
        return self.state.threshold


def dynamic_truncation(alpha: float, start: float = 0.99, window: int = 256) -> AdaptiveTruncation:
    """ForTIFAI's dynamic threshold (arXiv 2509.08972): mean + alpha * std of the micro-batches' mean probability.

    The published code takes both, at the start of each epoch, over the same 2048 samples or so, and keeps the threshold
    for the epoch. Here they are those of the last `window` micro-batches of training, after each of them, so that no
    data is read twice and runs of less than an epoch have a threshold that moves.

    Args:
        alpha: any finite number; the result is held within (0, 1].
        start: the threshold until two micro-batches have been seen.
        window: micro-batches, at least 2.

    Raises:
        ConfigError: an option outside its range.
    """
    check_number("alpha", alpha, "(-inf, inf)", "1 puts the threshold a standard deviation above the mean.")
    check_threshold(start)
    check_whole_number("window", window, 2, "One micro-batch has no spread, 256 is the default.")
    return _adaptive("dynamic", _Dynamic(alpha, start, window))


def scheduled_truncation(start: float, end: float, steps: int) -> AdaptiveTruncation:
    """A threshold that moves linearly from `start`, at the first micro-batch, to `end` after `steps` of them; it rests.

    Raises:
        ConfigError: a threshold that is not in (0, 1], or no steps.
    """
    check_threshold(start)
    check_threshold(end)
    check_whole_number("steps", steps, 1, "Count micro-batches: optimiser steps times accumulation.")
    return _adaptive("scheduled", _Scheduled(start, end, steps))


def target_kept_fraction(fraction: float, start: float = 0.99, window: int = 16) -> AdaptiveTruncation:
    """A threshold that holds the share of kept tokens: the `fraction`-quantile of p over recent micro-batches.

    Tokens of equal p are kept or truncated together: of the tokens seen, more may be kept than requested, never fewer.

    Args:
        fraction: the share to keep, in (0, 1].
        start: the threshold of the first micro-batch.
        window: how many micro-batches count as recent, at least 1.

    Raises:
        ConfigError: an option outside its range.
    """
    check_fraction("fraction", fraction)
    check_threshold(start)
    check_window(window)
    return _adaptive("target_kept", _TargetKept(fraction, start, window))


def _adaptive(name: str, rule: Rule) -> AdaptiveTruncation:
    return AdaptiveTruncation(name, partial(_weigh, rule), observe=rule.observe, state=rule)


def _weigh(rule: Rule, nll: Tensor, _entropy: Tensor | None) -> Tensor:
    return truncation_mask(nll, threshold=rule.threshold).to(nll.dtype)


def _held(threshold: float) -> float:
    return min(max(threshold, sys.float_info.min), 1.0)


class _Dynamic:
    def __init__(self, alpha: float, start: float, window: int) -> None:
        self.alpha = alpha
        self.start = start
        self.confidences: deque[float] = deque(maxlen=int(window))

    @property
    def threshold(self) -> float:
        if len(self.confidences) < 2:
            return self.start
        seen = torch.tensor(self.confidences, dtype=torch.float64)
        return _held(float(seen.mean() + self.alpha * seen.std()))

    def observe(self, nll: Tensor) -> None:
        # NaN of a micro-batch without targets, or of a step that a loss scaler will skip.
        if math.isfinite(confidence := float(torch.exp(-nll).mean())):
            self.confidences.append(confidence)

    def state_dict(self) -> dict[str, Any]:
        return {"confidences": list(self.confidences), "settings": self._settings()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, "dynamic", "confidences", settings=self._settings())
        self.confidences = deque(state["confidences"], maxlen=self.confidences.maxlen)

    def _settings(self) -> list[float]:
        return [float(self.alpha), float(self.start), float(self.confidences.maxlen or 0)]


class _Scheduled(MicroBatchCount):
    def __init__(self, start: float, end: float, steps: int) -> None:
        super().__init__("scheduled", start, end, steps)
        self.start = start
        self.end = end
        self.steps = steps

    @property
    def threshold(self) -> float:
        done = min(self.seen / self.steps, 1.0)
        return (1 - done) * self.start + done * self.end


class _TargetKept:
    def __init__(self, fraction: float, start: float, window: int) -> None:
        self.fraction = fraction
        self.start = self.threshold = start
        self.recent: deque[Tensor] = deque(maxlen=int(window))

    def observe(self, nll: Tensor) -> None:
        nll = nll[:: max(1, math.ceil(len(nll) / _MOST_TOKENS))].float().cpu()
        nll = nll[~nll.isnan()]
        if len(nll):
            # A copy, which does not keep the rest of the micro-batch in memory.
            self.recent.append(nll.clone())
            self._settle()

    def _settle(self) -> None:
        seen = torch.cat([*self.recent])
        truncated = len(seen) - math.ceil(self.fraction * len(seen))
        # In double precision exp and log return to the same NLL also where p is nearly 1.
        self.threshold = _held(math.exp(-float(seen.kthvalue(truncated + 1).values))) if truncated else 1.0

    def state_dict(self) -> dict[str, Any]:
        return {"recent": [nll.clone() for nll in self.recent], "settings": self._settings()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, "target_kept", "recent", settings=self._settings())
        self.recent = deque((nll.cpu() for nll in state["recent"]), maxlen=self.recent.maxlen)
        self.threshold = self.start
        if self.recent:
            self._settle()

    def _settings(self) -> list[float]:
        return [float(self.fraction), float(self.start), float(self.recent.maxlen or 0)]
