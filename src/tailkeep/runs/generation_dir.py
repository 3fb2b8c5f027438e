"""The folder of one trained generation of one arm and seed.

    cells/<arm>/<seed>/<generation>/{fingerprint.json, generated/, model/, samples/, metrics.json, timings.json, DONE}
    cells/<arm>/<seed>/<generation>/training/<part>/{curve.json, timings.json}
    generated.sha256, model.sha256, samples.sha256 beside the folders: lines of sha256sum; DONE has those of
    metrics.json and fingerprint.json

Rules: each phase is finished when its name exists; fingerprint.json is written first and DONE last. What has another
sha256 than recorded is damaged: it is made again, never used. Where none is recorded, as in a pack, none is checked.
`curve.json` is the same bytes in every run; speeds, which are not, stand beside it.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailkeep.errors import InputError
from tailkeep.runs.record import read_json
from tailkeep.runs.storage import Storage

_FINGERPRINT, _METRICS, _TIMINGS, _DONE = "fingerprint.json", "metrics.json", "timings.json", "DONE"
_SUMS = ".sha256"
_SHOWN = 40


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
        return (self.path / _DONE).is_file()

    @property
    def begun(self) -> bool:
        """Whether there is anything of it."""
        return self.path.is_dir() and any(self.path.iterdir())

    def fingerprint(self) -> dict[str, str]:
        """The hashes of its `inputs` and of its `environment`; empty where they are damaged, or older than these."""
        try:
            return read_json(self.path / _FINGERPRINT)
        except InputError:
            return {}

    def restore_fingerprint(self, fingerprint: Mapping[str, str]) -> None:
        """Write `fingerprint` anew if the finished generation's is damaged, and its recorded sha256 is that of this."""
        recorded, content = self._recorded_sum(_FINGERPRINT), _json_line(fingerprint).encode("utf-8")
        if recorded == hashlib.sha256(content).hexdigest() and not self._has_sum(recorded, _FINGERPRINT):
            self._write_json(_FINGERPRINT, fingerprint)

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
            elif path.name not in {_METRICS, _TIMINGS, _DONE}:
                link_file(path, target)
        metrics = _json_line({**source.metrics(), "arm": self.arm})
        (folder / _METRICS).write_text(metrics, encoding="utf-8")
        (folder / _DONE).write_text(self._sums_of(folder), encoding="utf-8")

    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`: the cell's names, its `metrics` and its `tables`.

        Raises:
            InputError: it cannot be read, is damaged, or is not the metrics of this generation.
        """
        if self.done and not self._has_metrics():
            raise InputError(
                f"{self.path / _METRICS} is damaged: its sha256 is not the one in {_DONE}. Run the same command again, "
                "which makes it anew."
            )
        tree = read_json(self.path / _METRICS)
        names = {"arm": self.arm, "seed": self.seed, "generation": self.generation}
        values, tables = tree.get("metrics"), tree.get("tables", {})
        fault = next((key for key, name in names.items() if tree.get(key) != name), "")
        fault = fault or ("" if isinstance(tree.get("learner"), str) else "learner")
        fault = fault or ("" if isinstance(values, dict) and all(map(_is_number, values.values())) else "metrics")
        fault = fault or ("" if isinstance(tables, dict) else "tables")
        if fault:
            raise InputError(
                f"{self.path / _METRICS}: {fault!r} is {str(tree.get(fault))[:_SHOWN]!r}, which is none of arm "
                f"{self.arm}, seed {self.seed}, generation {self.generation}. Delete {self.path / _DONE} and run the "
                "same command again, or pack the run again."
            )
        return {**tree, "tables": tables}

    def timings(self) -> dict[str, float]:
        """Seconds by phase; a phase that was interrupted counts the attempt that finished it.

        Raises:
            InputError: the file cannot be read, or holds something else than seconds.
        """
        path = self.path / _TIMINGS
        seconds = read_json(path) if path.exists() else {}
        for phase, value in seconds.items():
            if not _is_number(value) or not 0 <= value < math.inf:
                raise InputError(
                    f"{path}: {phase!r} is {str(value)[:_SHOWN]!r}, expected seconds. Delete the file, which holds no "
                    "result."
                )
        return seconds

    def add_timing(self, phase: str, seconds: float) -> None:
        """Record that `phase` took `seconds`. A damaged file of times, which are no results, begins anew."""
        try:
            before = self.timings()
        except InputError:
            before = {}
        self._write_json(_TIMINGS, {**before, phase: round(seconds, 3)})

    def write_metrics(
        self,
        metrics: Mapping[str, float],
        tables: Mapping[str, Any],
        *,
        learner: str,
        definitions: Mapping[str, Any] | None = None,
    ) -> None:
        """Write `metrics.json`. What is not finite stands there as NaN or Infinity, as Python's json reads it.

        `definitions` of metrics that the user's own code has measured stand beside them.
        """
        names = {"arm": self.arm, "seed": self.seed, "generation": self.generation, "learner": learner}
        tree = {**names, "metrics": dict(metrics), "tables": dict(tables)}
        self._write_json(_METRICS, {**tree, "definitions": dict(definitions)} if definitions else tree)

    def write_phase(self, path: Path, fill: Callable[[Path], None]) -> None:
        """Write the folder of a phase as `Storage.write_folder` does, and the sha256 of its files beside it.

        Raises:
            StorageError: the file system refused; at `path` is nothing, or the whole folder.
        """

        def fill_and_hash(folder: Path) -> None:
            fill(folder)
            files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
            lines = [_sum_line(file.read_bytes(), f"{path.name}/{file.relative_to(folder)}") for file in files]
            self.storage.write_text(path.with_name(f"{path.name}{_SUMS}"), "".join(lines))

        self.storage.write_folder(path, fill_and_hash)

    def remove_model(self) -> None:
        """Delete the model of a finished generation, and the record of its bytes before it."""
        self.storage.remove_folder(self.model.with_name(f"{self.model.name}{_SUMS}"))
        self.storage.remove_folder(self.model)

    def finish(self) -> None:
        """Close the cell."""
        self.storage.write_text(self.path / _DONE, self._sums_of(self.path))

    @staticmethod
    def _sums_of(folder: Path) -> str:
        files = (folder / name for name in (_METRICS, _FINGERPRINT))
        return "".join(_sum_line(file.read_bytes(), file.name) for file in files if file.exists())

    def _recorded_sum(self, name: str) -> str:
        """The sha256 of the file `name` in DONE, empty if it has none."""
        try:
            lines = (self.path / _DONE).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return ""
        return next((line.partition("  ")[0] for line in lines if line.endswith(f"  {name}")), "")

    def _has_metrics(self) -> bool:
        """Whether the metrics of a finished generation have the recorded sha256."""
        recorded = self._recorded_sum(_METRICS)
        return self._has_sum(recorded, _METRICS) if recorded else self._has_its_sums(_DONE, of=self.path / _FINGERPRINT)

    def remove_damaged(self) -> list[str]:
        """Remove what has other bytes than recorded, and what was made from it; the names of what was damaged.

        Raises:
            StorageError: the file system refused.
        """
        damaged = [
            folder.name
            for folder in (self.generated, self.model, self.samples)
            if folder.is_dir() and not self._has_its_sums(f"{folder.name}{_SUMS}", of=folder)
        ]
        damaged += [_METRICS] if self.done and not self._has_its_sums(_DONE, of=self.path / _FINGERPRINT) else []
        if damaged:
            # First the name that says that all is there.
            self.storage.remove_folder(self.path / _DONE)
            self.storage.remove_folder(self.path / _METRICS)
            for folder in (self.samples, self.model, self.generated):
                if folder.name in damaged or (folder == self.model and "generated" in damaged):
                    self.storage.remove_folder(folder)
        return damaged

    def check_generated(self) -> None:
        """Refuse generated data with other bytes than recorded.

        Raises:
            InputError: a file has another sha256, or is missing.
        """
        if not self._has_its_sums(f"{self.generated.name}{_SUMS}", of=self.generated):
            raise InputError(
                f"{self.generated} is damaged: a file has not the sha256 in {self.generated.name}{_SUMS}. Run the same "
                "lab command again, which makes it anew."
            )

    def _has_its_sums(self, name: str, *, of: Path) -> bool:
        """Whether all files that the lines of the file `name` list have their sha256; true where there is no such file.

        It may be empty only if `of` is not there, or is a folder without files: a pack has no fingerprint.
        """
        path = self.path / name
        if not path.is_file():
            return True
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        except UnicodeDecodeError:
            return False
        has_content = any(of.iterdir()) if of.is_dir() else of.exists()
        is_empty = has_content and not lines
        # A line without its end was torn.
        whole = all(line.endswith("\n") for line in lines)
        return whole and not is_empty and all(self._has_sum(*line.strip("\n").partition("  ")[::2]) for line in lines)

    def _has_sum(self, digest: str, name: str) -> bool:
        path = self.path / name
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == digest
        except (OSError, ValueError):
            return False

    def _write_json(self, name: str, tree: Mapping[str, Any]) -> None:
        self.storage.write_text(self.path / name, _json_line(tree))


def _is_number(value: object) -> bool:
    """Whether it is a number that a float holds; true and false are none."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 1 << 1023)


def _sum_line(content: bytes, name: str) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n"


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


_TABLE = "loss_curve"
COLUMNS = ("step", "loss", "cross_entropy", "kept_fraction", "learning_rate")
"""The loss that is minimised and the cross-entropy in nats/token: means over the steps since the last reading."""


def write_training_curve(
    generation_dir: GenerationDir, part: str, curve: Mapping[str, Sequence[float]], tokens_per_second: Sequence[float]
) -> None:
    """Keep the curve of `part`, a model or a member of an ecosystem; `curve` has the `COLUMNS`."""
    folder = generation_dir.path / "training" / part
    generation_dir.storage.write_text(folder / "curve.json", json.dumps(dict(curve)) + "\n")
    speeds = {"tokens_per_second": [round(speed, 1) for speed in tokens_per_second]}
    generation_dir.storage.write_text(folder / "timings.json", json.dumps(speeds) + "\n")


def curve_tables(generation_dir: GenerationDir) -> dict[str, Any]:
    """The curves as tables of `metrics.json`: `loss_curve`, or `loss_curve.PART` of each of several parts.

    Raises:
        InputError: a file cannot be read.
    """
    return _by_part(generation_dir, "curve.json", read_json)


def read_speeds(generation_dir: GenerationDir) -> dict[str, list[float]]:
    """Tokens/s at each row of the curves, by the names of their tables; empty where a run does not have them.

    Raises:
        InputError: a file cannot be read.
    """
    return _by_part(generation_dir, "timings.json", _speeds)


def is_curve_table(name: str) -> bool:
    """Whether a table is a training curve, or that of a part of an ecosystem."""
    return name.partition(".")[0] == _TABLE


def _by_part(generation_dir: GenerationDir, file: str, read: Callable[[Path], Any]) -> dict[str, Any]:
    parts = {path.parent.name: read(path) for path in sorted((generation_dir.path / "training").glob(f"*/{file}"))}
    return {_TABLE if len(parts) == 1 else f"{_TABLE}.{part}": content for part, content in parts.items()}


def _speeds(path: Path) -> list[float]:
    speeds = read_json(path).get("tokens_per_second")
    if not isinstance(speeds, list) or not all(isinstance(speed, float | int) for speed in speeds):
        raise InputError(f"{path}: 'tokens_per_second' is no list of numbers. Delete the file, which holds no result.")
    return speeds
