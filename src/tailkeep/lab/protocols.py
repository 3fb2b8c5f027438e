"""What the recursion needs to know of a learner, and no more. Gaussians and language models share only this.

legend: data -> fit -> model -> sample / regenerate -> data -> ...
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tailkeep.lab.selectors import Selector
from tailkeep.rules import Rule, Sampler

Indices = NDArray[np.int64]


class Data(Protocol):
    """A finite, ordered set of examples: numbers, points or documents."""

    def __len__(self) -> int:
        """How many examples."""
        ...

    @property
    def units(self) -> int:
        """How many units of training these are: tokens for text, examples for numbers."""
        ...

    def take(self, indices: Indices) -> Self:
        """The examples at `indices`, in that order."""
        ...

    def concat(self, *others: Self) -> Self:
        """These examples, then those of `others`."""
        ...

    def split(self, parts: int) -> Sequence[Self]:
        """`parts` consecutive pieces of nearly equal size; nothing is lost."""
        ...

    def save(self, folder: Path) -> None:
        """Write the examples into `folder`, which exists and is empty."""
        ...

    def read(self, folder: Path) -> Self:
        """Another set of this kind, from a folder that `save` has filled."""
        ...


class Model(Protocol):
    """A trained generation."""

    @property
    def facts(self) -> Mapping[str, float]:
        """Numbers about its own training, such as `train_units`; they are saved with the model."""
        ...

    def sample(self, n: int, *, seed: int) -> Any:
        """`n` fresh examples, as the arm's own decoder writes them."""
        ...

    def regenerate(self, data: Any, *, seed: int) -> Any:
        """`data` written anew, example by example, each prompted by the original."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model into `folder`, which exists and is empty. Never a pickle."""
        ...


class EditedData(Data, Protocol):
    """Data that a model has edited; `read` gives back the facts that `save` has written."""

    @property
    def facts(self) -> Mapping[str, float]:
        """`flagged_share`, `changed_share` and, against the real data, `cumulative_changed_share`."""
        ...


class EditingModel(Model, Protocol):
    """A model that can also change data in part, for the regime `edit`."""

    def edit(self, data: Any, *, rule: Rule, sampler: Sampler, seed: int) -> EditedData:
        """`data` with what `rule` flags drawn anew by `sampler`."""
        ...


class SelectedData(Data, Protocol):
    """Data that were selected; `read` gives back the facts that `save` has written."""

    @property
    def facts(self) -> Mapping[str, float]:
        """`candidates`, `selected_share`, `effective_sample_size`, and what else the selector tells."""
        ...


class Selecting(Protocol):
    """How what a model has written is selected from, for the regime `select`."""

    def __call__(self, model: Any, candidates: Any, *, by: Selector, size: int, seed: int) -> SelectedData:
        """`size` of the `candidates` that `model` has written, drawn by the weights of the selector `by`."""
        ...


class Learner(Protocol):
    """A way of training. `budget` is the stage's size in real units, so that arms of different size train equally."""

    def fit(self, data: Any, *, seed: int, budget: int, previous: Any = None) -> Any:
        """Train on `data`, from `previous` (the predecessor's model) if this learner inherits."""
        ...

    def load(self, folder: Path) -> Any:
        """The model that `save` has written."""
        ...


@dataclass(frozen=True)
class Measurement:
    """What one generation came to: numbers by name, and tables (histograms, densities) for the report."""

    metrics: Mapping[str, float]
    tables: Mapping[str, Any] = field(default_factory=dict)


View = Callable[[Any, int], Any]
"""(model, seed) -> Data: fresh samples through one decoder."""

Measure = Callable[[Any, Mapping[str, Any]], Measurement]
"""(model, samples by view) -> Measurement."""


@dataclass(frozen=True)
class Experiment:
    """What one arm studies: real data, a learner, the views its models are sampled through, and a measure.

    `views` maps a name to a sampler; "common" is the same decoder for all arms, "own" the arm's. `edits` says that the
    learner's models are an `EditingModel`. `select` selects from what they write, if that can be weighed. `first`, a
    function of a seed, makes what generation 0 trains on where that is not the real data: `EditedData`, whose facts
    stand among the metrics.
    """

    name: str
    real: Any
    learner: Learner
    views: Mapping[str, View]
    measure: Measure
    edits: bool = False
    select: Selecting | None = None
    first: Callable[[int], Any] | None = None


# Where a lineage stands, and what a regime answers there.


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
