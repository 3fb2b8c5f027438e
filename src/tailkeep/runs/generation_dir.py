"""The folder of one trained generation of one arm and seed.

    cells/<arm>/<seed>/<generation>/{fingerprint.json, generated/, model/, samples/, metrics.json, timings.json, DONE}

Rule: each phase is finished when its name exists; fingerprint.json is written first and DONE last.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailkeep.runs.record import read_json
from tailkeep.runs.storage import Storage

_FINGERPRINT, _METRICS, _TIMINGS = "fingerprint.json", "metrics.json", "timings.json"


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

    @property
    def begun(self) -> bool:
        """Whether there is anything of it."""
        return self.path.is_dir() and any(self.path.iterdir())

    def fingerprint(self) -> dict[str, str]:
        """The hashes of its `inputs` and of its `environment`; empty in a run that is older than these.

        Raises:
            InputError: the file cannot be read.
        """
        path = self.path / _FINGERPRINT
        return read_json(path) if path.exists() else {}

    def write_fingerprint(self, fingerprint: Mapping[str, str]) -> None:
        """Record what can change this generation, unless that was done."""
        if not (self.path / _FINGERPRINT).exists():
            self._write_json(_FINGERPRINT, fingerprint)

    def link_from(self, source: "GenerationDir") -> None:
        """Take over the finished generation `source` of another arm: its files under its own name, linked on the disk.

        It took no time of its own, so it has no timings.

        Raises:
            StorageError: the file system refused a write.
        """
        self.storage.write_folder(self.path, lambda folder: self._link_into(folder, source))

    def _link_into(self, folder: Path, source: "GenerationDir") -> None:
        for path in sorted(source.path.rglob("*")):
            target = folder / path.relative_to(source.path)
            if path.is_dir():
                target.mkdir()
            elif path.name not in {_METRICS, _TIMINGS}:
                link_file(path, target)
        (folder / _METRICS).write_text(_json_line({**source.metrics(), "arm": self.arm}), encoding="utf-8")

    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`: the cell's names, its `metrics` and its `tables`.

        Raises:
            InputError: it cannot be read.
        """
        return read_json(self.path / _METRICS)

    def timings(self) -> dict[str, float]:
        """Seconds by phase; a phase that was interrupted counts the attempt that finished it."""
        path = self.path / _TIMINGS
        return read_json(path) if path.exists() else {}

    def add_timing(self, phase: str, seconds: float) -> None:
        """Record that `phase` took `seconds`."""
        self._write_json(_TIMINGS, {**self.timings(), phase: round(seconds, 3)})

    def write_metrics(self, metrics: Mapping[str, float], tables: Mapping[str, Any], *, learner: str) -> None:
        """Write `metrics.json`. What is not finite stands there as NaN or Infinity, as Python's json reads it."""
        names = {"arm": self.arm, "seed": self.seed, "generation": self.generation, "learner": learner}
        self._write_json(_METRICS, {**names, "metrics": dict(metrics), "tables": dict(tables)})

    def finish(self) -> None:
        """Close the cell."""
        self.storage.write_text(self.path / "DONE", "")

    def _write_json(self, name: str, tree: Mapping[str, Any]) -> None:
        self.storage.write_text(self.path / name, _json_line(tree))


def _json_line(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, ensure_ascii=False) + "\n"


def link_file(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy where the file system has none.

    Nothing in a finished generation is ever written in place, so neither changes under the other.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
