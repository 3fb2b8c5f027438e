"""Where a lineage stands, and what a regime answers there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Written = Mapping[int, Any]
"""What was written for each generation from 1 on: {generation: Data}."""


@dataclass(frozen=True)
class Stage:
    """Where a lineage stands when generation `generation` (>= 1) is about to be trained.

    `select` is that of the subject (`protocols.Selecting`), for the regime of that name.
    """

    generation: int
    real: Any
    previous_training_set: Callable[[], Any]
    model: Any
    select: Callable[..., Any] | None = None


class Regime(Protocol):
    """One way of composing training sets."""

    @property
    def keeps_history(self) -> bool:
        """Whether `mix` needs what earlier generations wrote, not only the newest."""
        ...

    def write(self, stage: Stage, *, seed: int) -> Any:
        """The data that the previous model writes for this generation."""
        ...

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:
        """The training set of `generation`; `written` is empty for generation 0."""
        ...

    def budget(self, generation: int, real: Any) -> int:
        """The units of training data this generation stands for, whatever the size of its training set."""
        ...

    def facts(self, generation: int, written: Written) -> Mapping[str, float]:
        """Numbers about what was written for this generation; they stand among its metrics."""
        ...
