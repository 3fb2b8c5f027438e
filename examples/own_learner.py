"""A learner of one's own in the laboratory: counts of words, the simplest model that can lose its tail.

python examples/own_learner.py runs/own-learner
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep import lab, report


@dataclass(frozen=True)
class Words:
    """Word numbers, one an example."""

    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def units(self) -> int:
        return len(self.numbers)

    def take(self, indices: NDArray[np.int64]) -> "Words":
        return Words(self.numbers[indices])

    def concat(self, *others: "Words") -> "Words":
        return Words(np.concatenate([self.numbers, *(other.numbers for other in others)]))

    def split(self, parts: int) -> list["Words"]:
        return [Words(part) for part in np.array_split(self.numbers, parts)]

    def save(self, folder: Path) -> None:
        np.save(folder / "values.npy", self.numbers, allow_pickle=False)

    def read(self, folder: Path) -> "Words":
        return Words(np.load(folder / "values.npy", allow_pickle=False))


@dataclass(frozen=True)
class Frequencies:
    """The share of each word."""

    share: NDArray[np.float64]
    facts: Mapping[str, float] = field(default_factory=dict)

    def sample(self, n: int, *, seed: int) -> Words:
        return Words(np.random.default_rng(seed).choice(len(self.share), size=n, p=self.share))

    def regenerate(self, data: Words, *, seed: int) -> Words:
        return self.sample(len(data), seed=seed)

    def save(self, folder: Path) -> None:
        content = {"share": self.share.tolist(), "facts": dict(self.facts)}
        (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")


@dataclass(frozen=True)
class Counting:
    """Maximum likelihood: a word that was not drawn is gone for ever."""

    vocabulary: int

    def fit(self, data: Words, *, seed: int, budget: int, previous: Frequencies | None = None) -> Frequencies:
        counts = np.bincount(data.numbers, minlength=self.vocabulary)
        return Frequencies(counts / counts.sum(), {"train_units": float(len(data))})

    def load(self, folder: Path) -> Frequencies:
        content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        return Frequencies(np.array(content["share"]), content["facts"])


def experiment(options: Mapping[str, Any], seed: int) -> lab.Experiment:
    vocabulary, size = int(options["vocabulary"]), int(options["size"])
    share = 1 / np.arange(1, vocabulary + 1)
    share /= share.sum()
    real = Words(np.random.default_rng(seed).choice(vocabulary, size=size, p=share))
    return lab.Experiment(
        name="words",
        real=real,
        learner=Counting(vocabulary),
        views={"common": lambda model, seed: model.sample(size, seed=seed)},
        measure=lambda model, samples: lab.Measurement({"words_alive": float((model.share > 0).sum())}),
    )


CONFIG: dict[str, Any] = {
    "name": "own-learner",
    "seeds": [0, 1, 2],
    "learner": "user",
    "id": "words",
    "version": "1",
    "options": {"vocabulary": 1000, "size": 2000},
    "generations": 20,
    "arms": {"replace": {}, "accumulate": {"regime": {"name": "accumulate"}}},
}

if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/own-learner")
    lab.run(CONFIG, out, learners={"words": experiment})
    print(report.write(out))
