"""Regimes: what each generation's model must write, and what the next generation trains on.

A regime is two pure functions. `write` asks the previous model for text (the expensive part, saved to the cell);
`mix` composes the training set from real data and everything written so far. Generation 0 sees real data only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import Field

from tailkeep.config import Settings
from tailkeep.errors import ConfigError

Written = Mapping[int, Any]
"""What was written for each generation from 1 on: {generation: Data}."""


@dataclass(frozen=True)
class Stage:
    """Where a lineage stands when generation `generation` (>= 1) is about to be trained."""

    generation: int
    real: Any
    previous_training_set: Callable[[], Any]
    model: Any


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


class _Fresh(Settings):
    """The regimes in which each model writes fresh examples, as many as there are real ones."""

    def write(self, stage: Stage, *, seed: int) -> Any:
        """As many examples as there are real ones."""
        return stage.model.sample(len(stage.real), seed=seed)

    def budget(self, generation: int, real: Any) -> int:  # noqa: ARG002
        """The real data's size."""
        return int(real.units)


class Replace(_Fresh):
    """Each generation trains only on what the last one wrote (Shumailov et al. 2024)."""

    name: Literal["replace"]
    keeps_history: ClassVar[bool] = False

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:  # noqa: ARG002
        """The newest written data."""
        return written[generation] if generation else real


class Accumulate(_Fresh):
    """Each generation trains on the real data and everything written since (Gerstgrasser et al., arXiv 2404.01413)."""

    name: Literal["accumulate"]
    keeps_history: ClassVar[bool] = True

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:  # noqa: ARG002
        """Real data, then generation after generation."""
        return _pool(generation, real, written)


class AccumulateSubsample(_Fresh):
    """As `accumulate`, but each generation sees a random sample of the real data's size (arXiv 2410.16713)."""

    name: Literal["accumulate_subsample"]
    keeps_history: ClassVar[bool] = True

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:
        """A sample without replacement from the pool, in the pool's order."""
        return _sample(_pool(generation, real, written), len(real), seed)


class Mix(_Fresh):
    """A fixed share of real data beside what the last generation wrote; the budget of examples is the real data's.

    With two generations this is the non-iterative experiment (ToEdit, arXiv 2412.14689, section 2).
    """

    name: Literal["mix"]
    keeps_history: ClassVar[bool] = False
    real_share: Annotated[float, Field(ge=0, le=1)]

    def write(self, stage: Stage, *, seed: int) -> Any:
        """The examples that are not real; a model is never asked for none."""
        missing = len(stage.real) - self._kept(stage.real)
        return stage.model.sample(missing, seed=seed) if missing else stage.real.take(np.arange(0))

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:
        """A random part of the real data, then the newest written data."""
        return _sample(real, self._kept(real), seed).concat(written[generation]) if generation else real

    def _kept(self, real: Any) -> int:
        return round(self.real_share * len(real))


class Regenerate(Settings):
    """ForTIFAI's recursion (arXiv 2509.08972): real data arrives in `fractions` equal consecutive parts.

    Generation s trains on the regeneration of the whole previous training set and on part s, so the written share is
    s / (s + 1). After the last part no real data arrives any more.
    """

    name: Literal["regenerate"]
    keeps_history: ClassVar[bool] = False
    fractions: Annotated[int, Field(ge=1)] = 6

    def write(self, stage: Stage, *, seed: int) -> Any:
        """The previous training set, written anew."""
        return stage.model.regenerate(stage.previous_training_set(), seed=seed)

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:  # noqa: ARG002
        """The regeneration, then this generation's part of the real data."""
        parts = self._parts(real)
        if generation == 0:
            return parts[0]
        newest = written[generation]
        return newest.concat(parts[generation]) if generation < self.fractions else newest

    def budget(self, generation: int, real: Any) -> int:
        """The size of the parts that have arrived."""
        return sum(part.units for part in self._parts(real)[: generation + 1])

    def _parts(self, real: Any) -> Any:
        if len(real) < self.fractions:
            raise ConfigError(
                f"regime.fractions: {len(real)} examples cannot be cut into {self.fractions} parts. Use fewer."
            )
        return real.split(self.fractions)


AnyRegime = Annotated[
    Replace | Accumulate | AccumulateSubsample | Mix | Regenerate,
    Field(discriminator="name"),
]


def _pool(generation: int, real: Any, written: Written) -> Any:
    return real.concat(*(written[number] for number in range(1, generation + 1)))


def _sample(data: Any, size: int, seed: int) -> Any:
    chosen = np.random.default_rng(seed).choice(len(data), size=min(size, len(data)), replace=False)
    return data.take(np.sort(chosen))
