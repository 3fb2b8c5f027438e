"""The folder of one trained generation of one arm and seed.

    cells/<arm>/<seed>/<generation>/{generated/, model/, samples/, metrics.json, timings.json, DONE}

Rule: each phase is finished when its name exists, and DONE is written last.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailkeep.runs.record import read_json
from tailkeep.runs.storage import Storage


@dataclass(frozen=True)
class GenerationDir:
    """One generation of one arm and seed. Its folder fills phase by phase; `DONE` closes it."""

    arm: str
    seed: int
    generation: int
    path: Path
    storage: Storage = field(default_factory=Storage, repr=False, compare=False)

    @property
    def generated(self) -> Path:
        """What the previous model generated, one folder per generation."""
        return self.path / "generated"

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.path / "model"

    @property
    def samples(self) -> Path:
        """Fresh samples of the model, one folder a decoder."""
        return self.path / "samples"

    @property
    def done(self) -> bool:
        """Whether every phase is finished."""
        return (self.path / "DONE").is_file()

    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`: the cell's names, its `metrics` and its `tables`.

        Raises:
            InputError: it cannot be read.
        """
        return read_json(self.path / "metrics.json")

    def timings(self) -> dict[str, float]:
        """Seconds by phase; a phase that was interrupted counts the attempt that finished it."""
        path = self.path / "timings.json"
        return read_json(path) if path.exists() else {}

    def add_timing(self, phase: str, seconds: float) -> None:
        """Record that `phase` took `seconds`."""
        self._write_json("timings.json", {**self.timings(), phase: round(seconds, 3)})

    def write_metrics(self, metrics: Mapping[str, float], tables: Mapping[str, Any], *, learner: str) -> None:
        """Write `metrics.json`. What is not finite stands there as NaN or Infinity, as Python's json reads it."""
        names = {"arm": self.arm, "seed": self.seed, "generation": self.generation, "learner": learner}
        self._write_json("metrics.json", {**names, "metrics": dict(metrics), "tables": dict(tables)})

    def finish(self) -> None:
        """Close the cell."""
        self.storage.write_text(self.path / "DONE", "")

    def _write_json(self, name: str, tree: Mapping[str, Any]) -> None:
        self.storage.write_text(self.path / name, json.dumps(tree, ensure_ascii=False) + "\n")
