"""A learner whose every number says where it came from, for watching what the recursion does.

Real examples are 0, 1, 2, ...; generation g's model writes 1000 (g + 1), 1000 (g + 1) + 1, ... and rewrites x as
x + 0.5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tailkeep.lab import Experiment, Measurement
from tailkeep.lab.toy_data import ArrayData, Floats


def numbers(*values: float) -> ArrayData:
    return ArrayData(np.array(values, dtype=np.float64))


def real(n: int) -> ArrayData:
    return ArrayData(np.arange(n, dtype=np.float64))


def listed(data: ArrayData) -> list[float]:
    return data.values.tolist()


@dataclass
class CallLog:
    """Every call of a learner and its models, in order: (verb, what with)."""

    calls: list[tuple[str, object]] = field(default_factory=list)

    def of(self, verb: str) -> list[object]:
        return [what for name, what in self.calls if name == verb]


@dataclass(frozen=True)
class TraceModel:
    generation: int
    call_log: CallLog
    trained_on: Floats

    @property
    def facts(self) -> Mapping[str, float]:
        return {"train_units": float(len(self.trained_on))}

    def sample(self, n: int, *, seed: int) -> ArrayData:
        self.call_log.calls.append(("sample", (self.generation, n, seed)))
        return ArrayData(1000.0 * (self.generation + 1) + np.arange(n))

    def regenerate(self, data: ArrayData, *, seed: int) -> ArrayData:
        self.call_log.calls.append(("regenerate", (self.generation, listed(data), seed)))
        return ArrayData(data.values + 0.5)

    def save(self, folder: Path) -> None:
        (folder / "generation").write_text(str(self.generation))
        np.save(folder / "trained_on.npy", self.trained_on)


@dataclass(frozen=True)
class TraceLearner:
    call_log: CallLog

    def fit(self, data: ArrayData, *, seed: int, budget: int, previous: TraceModel | None = None) -> TraceModel:
        generation = previous.generation + 1 if previous else 0
        self.call_log.calls.append(("fit", (generation, listed(data), seed, budget)))
        return TraceModel(generation, self.call_log, data.values)

    def load(self, folder: Path) -> TraceModel:
        generation = int((folder / "generation").read_text())
        self.call_log.calls.append(("load", generation))
        return TraceModel(generation, self.call_log, np.load(folder / "trained_on.npy"))


def measure(model: TraceModel, samples: Mapping[str, ArrayData]) -> Measurement:
    model.call_log.calls.append(("measure", model.generation))
    return Measurement({"mean": float(samples["common"].values.mean()), "last": float(model.trained_on[-1])})


def trace_experiment(call_log: CallLog, *, size: int = 6) -> Experiment:
    return Experiment(
        name="trace",
        real=real(size),
        learner=TraceLearner(call_log),
        views={"common": lambda model, seed: ArrayData(np.full(2, model.generation + seed / 2**32))},
        measure=measure,
    )


def trace_learners(call_log: CallLog, *, size: int = 6) -> dict[str, Callable[[Mapping[str, object], int], Experiment]]:
    return {"trace": lambda options, seed: trace_experiment(call_log, size=size)}
