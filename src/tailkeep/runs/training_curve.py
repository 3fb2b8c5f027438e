"""The training curves of a generation: what the loss did, step by step.

    cells/<arm>/<seed>/<generation>/training/<part>/{curve.json, timings.json}

Rule: `curve.json` is the same bytes in every run; speeds, which are not, stand beside it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tailkeep.errors import InputError
from tailkeep.runs.generation_dir import GenerationDir
from tailkeep.runs.record import read_json

TABLE = "loss_curve"
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
    paths = sorted((generation_dir.path / "training").glob("*/curve.json"))
    curves = {path.parent.name: read_json(path) for path in paths}
    return {TABLE if len(curves) == 1 else f"{TABLE}.{part}": curve for part, curve in curves.items()}


def read_speeds(generation_dir: GenerationDir) -> dict[str, list[float]]:
    """Tokens/s at each row of the curves, by the names of their tables; empty where a run does not have them.

    Raises:
        InputError: a file cannot be read.
    """
    paths = sorted((generation_dir.path / "training").glob("*/timings.json"))
    speeds = {path.parent.name: _speeds(path) for path in paths}
    return {TABLE if len(speeds) == 1 else f"{TABLE}.{part}": row for part, row in speeds.items()}


def _speeds(path: Path) -> list[float]:
    speeds = read_json(path).get("tokens_per_second")
    if not isinstance(speeds, list) or not all(isinstance(speed, float | int) for speed in speeds):
        raise InputError(f"{path}: 'tokens_per_second' is no list of numbers. Delete the file, which holds no result.")
    return speeds
