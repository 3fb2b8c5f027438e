"""A learner of one's own: a scale is fitted to numbers, and the next generation fits what it draws.

    learner: "my_learner:scales"
    options: {size: 50}

The function returns an experiment; its data, model and learner need what `tailkeep.lab.protocols` lists, of which
`tailkeep.lab.toy_data.ArrayData` has the data.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tailkeep.lab import Experiment, Measurement
from tailkeep.lab.toy_data import ArrayData


@dataclass(frozen=True)
class Scale:
    """A model that is a learner too: `fit` gives another one."""

    value: float = 1.0
    facts: dict[str, float] = field(default_factory=dict)

    def fit(self, data: ArrayData, *, seed: int, budget: int, previous: Any = None) -> "Scale":
        return Scale(float(data.values.std()))

    def sample(self, n: int, *, seed: int) -> ArrayData:
        return ArrayData(np.random.default_rng(seed).standard_normal(n) * self.value)

    def save(self, folder: Path) -> None:
        (folder / "scale.txt").write_text(repr(self.value))

    def load(self, folder: Path) -> "Scale":
        return Scale(float((folder / "scale.txt").read_text()))


def scales(size: int = 100, *, seed: int) -> Experiment:
    views = {"common": lambda model, seed: model.sample(size, seed=seed)}
    measure = lambda model, samples: Measurement({"scale": model.value})  # noqa: E731
    return Experiment("scales", Scale().sample(size, seed=seed), Scale(), views, measure)
