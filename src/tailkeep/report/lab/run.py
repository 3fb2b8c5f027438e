"""A run directory as the report sees it: arms in the order of the config, finished cells, and what is missing.

Rule: files are all that is known. A run that has not ended is read like one that has; nothing here writes.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailkeep.config import read_yaml
from tailkeep.errors import InputError
from tailkeep.runs import GenerationDir, RunDirectory

_LONGEST_NAME = 120
_LONGEST_SENTENCE = 600


@dataclass(frozen=True)
class Entry:
    """One finished cell. `metrics` holds floats only (NaN where the run recorded no number), `tables` is as written."""

    cell: GenerationDir
    learner: str
    metrics: Mapping[str, float]
    tables: Mapping[str, Any]

    @property
    def arm(self) -> str:
        """The cell's arm."""
        return self.cell.arm

    @property
    def seed(self) -> int:
        """The cell's seed."""
        return self.cell.seed

    @property
    def generation(self) -> int:
        """The cell's generation."""
        return self.cell.generation


@dataclass(frozen=True)
class ArmGroup:
    """All arms of one learner. Arms are in the order of the config, entries by arm, seed and generation."""

    learner: str
    arms: tuple[str, ...]
    entries: tuple[Entry, ...]
    bases: Mapping[str, str] = field(default_factory=dict)

    @property
    def compared(self) -> tuple[str, ...]:
        """The arms that are compared with another one."""
        return tuple(arm for arm in self.arms if self.base_of(arm) != arm and self.base_of(arm) in self.arms)

    def base_of(self, arm: str) -> str:
        """What `arm` is compared with: the first level of a grid's last axis in its circumstance, or the first arm."""
        return self.bases.get(arm, self.arms[0])

    @property
    def names(self) -> set[str]:
        """Every metric that some entry has."""
        return {name for entry in self.entries for name in entry.metrics}

    def of(self, arm: str) -> tuple[Entry, ...]:
        """The entries of `arm`."""
        return tuple(entry for entry in self.entries if entry.arm == arm)

    def series(self, arm: str, metric: str) -> dict[int, dict[int, float]]:
        """seed -> generation -> value of `metric`, finite values only."""
        found: dict[int, dict[int, float]] = {}
        for entry in self.of(arm):
            value = entry.metrics.get(metric, math.nan)
            if math.isfinite(value):
                found.setdefault(entry.seed, {})[entry.generation] = value
        return found

    def generations(self) -> list[int]:
        """Every generation that some arm has recorded, ascending."""
        return sorted({entry.generation for entry in self.entries})


@dataclass(frozen=True)
class Missing:
    """An arm and seed that is not at its end. `last` is its last finished generation, None if there is none."""

    arm: str
    seed: int
    last: int | None
    working_on: int | None


@dataclass(frozen=True)
class LabRun:
    """A run and everything that the report says about it.

    `arms` holds every arm, also one without a finished cell; `grid` the levels of each axis that arms cross.
    """

    run: RunDirectory
    name: str
    description: str
    config_text: str
    arms: tuple[str, ...]
    grid: Mapping[str, tuple[str, ...]]
    groups: tuple[ArmGroup, ...]
    missing: tuple[Missing, ...]
    finished: int


def settings_of(grid: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """By each combination of a grid's other axes, as it is shown, the arm of every level of the last one."""
    *others, levels = grid.values()
    return {
        " · ".join(names): {level: "-".join([*names, level]) for level in levels}
        for names in itertools.product(*others)
    }


def read_lab_run(path: Path | str) -> LabRun:
    """The run at `path`.

    Raises:
        InputError: there is no run, or one of its files cannot be read.
        ConfigError: its config.yaml is not YAML.
    """
    run = RunDirectory.open(Path(path))
    config_path = run.path / "config.yaml"
    config = read_yaml(config_path) if config_path.exists() else {}
    cells = run.cells(only_done=False)
    entries = [_entry(cell) for cell in cells if cell.done]
    arms, grid = _arms(config, cells), _grid(config)
    learners = sorted({e.learner for e in entries}, key=lambda name: _first_arm(name, entries, arms))
    return LabRun(
        run=run,
        name=_cut(config.get("name") or run.path.resolve().name, _LONGEST_NAME),
        description=_cut(config.get("description") or "", _LONGEST_SENTENCE),
        config_text=config_path.read_text(encoding="utf-8") if config_path.exists() else "",
        arms=arms,
        grid=grid,
        groups=tuple(_group(learner, entries, arms, grid) for learner in learners),
        missing=tuple(_missing(run, config, cells, arms)),
        finished=len(entries),
    )


def _cut(text: object, longest: int) -> str:
    whole = str(text)
    return whole if len(whole) <= longest else whole[:longest] + "…"


def _entry(cell: GenerationDir) -> Entry:
    tree = cell.metrics()
    metrics, tables = tree.get("metrics", {}), tree.get("tables", {})
    if not isinstance(metrics, Mapping) or not isinstance(tables, Mapping):
        raise InputError(f"{cell.path / 'metrics.json'}: 'metrics' and 'tables' must be objects. Run the cell again.")
    return Entry(cell, str(tree.get("learner", "")), {str(k): _number(v) for k, v in metrics.items()}, tables)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _arms(config: Mapping[str, Any], cells: list[GenerationDir]) -> tuple[str, ...]:
    listed = config.get("arms")
    names = [str(name) for name in listed] if isinstance(listed, Mapping) else []
    return tuple(dict.fromkeys([*names, *(cell.arm for cell in cells)]))


def _grid(config: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    axes = config.get("grid")
    if not isinstance(axes, Mapping):
        return {}
    return {str(axis): tuple(map(str, levels)) for axis, levels in axes.items() if isinstance(levels, list)}


def _first_arm(learner: str, entries: list[Entry], arms: tuple[str, ...]) -> tuple[int, str]:
    return min(arms.index(entry.arm) for entry in entries if entry.learner == learner), learner


def _group(learner: str, entries: list[Entry], arms: tuple[str, ...], grid: Mapping[str, Sequence[str]]) -> ArmGroup:
    own = sorted(
        (entry for entry in entries if entry.learner == learner),
        key=lambda entry: (arms.index(entry.arm), entry.seed, entry.generation),
    )
    rows = [list(row.values()) for row in settings_of(grid).values()] if grid else []
    bases = {arm: row[0] for row in rows for arm in row}
    return ArmGroup(learner, tuple(dict.fromkeys(entry.arm for entry in own)), tuple(own), bases)


def _missing(
    run: RunDirectory, config: Mapping[str, Any], cells: list[GenerationDir], arms: tuple[str, ...]
) -> Iterator[Missing]:
    done = [cell for cell in cells if cell.done]
    seeds = sorted({*run.record.seeds, *(cell.seed for cell in cells)})
    for arm in arms:
        end = _end(config, arm, done)
        for seed in seeds:
            finished = [c.generation for c in done if (c.arm, c.seed) == (arm, seed)]
            begun = [c.generation for c in cells if not c.done and (c.arm, c.seed) == (arm, seed)]
            last = max(finished, default=None)
            if begun or last is None or last < end:
                yield Missing(arm, seed, last, min(begun, default=None))


def _end(config: Mapping[str, Any], arm: str, done: list[GenerationDir]) -> int:
    """The last generation that `arm` is expected to reach; they are counted from 0."""
    overrides = config["arms"].get(arm) if isinstance(config.get("arms"), Mapping) else None
    stated = (overrides or {}).get("generations") if isinstance(overrides or {}, Mapping) else None
    stated = stated if stated is not None else config.get("generations")
    reached = max((cell.generation for cell in done if cell.arm == arm), default=0)
    return max(stated - 1, reached) if isinstance(stated, int) else reached
