"""The run directory of a laboratory run, read: arms by the config, finished generations, unfinished chains.

Rule: it reads files only and writes nothing. An unfinished run is read like a finished one.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from tailkeep.errors import InputError
from tailkeep.report.metric_catalog import Catalog
from tailkeep.report.phrases import BASELINE, OTHER, Role, role_of
from tailkeep.runs import GenerationDir, RunDirectory
from tailkeep.runs.metric import Metric, parse_definitions
from tailkeep.sanitize import excerpt

_LONGEST_NAME = 120
_LONGEST_SENTENCE = 600

Value = TypeVar("Value")


@dataclass(frozen=True)
class Entry:
    """One finished generation. `metrics` holds floats (NaN where none was recorded), `tables` the JSON as stored.

    `definitions` are those of the metrics of the run's own code.
    """

    directory: GenerationDir
    learner: str
    metrics: Mapping[str, float]
    tables: Mapping[str, Any]
    definitions: Mapping[str, Metric] = field(default_factory=dict)

    @property
    def arm(self) -> str:
        """The arm."""
        return self.directory.arm

    @property
    def seed(self) -> int:
        """The seed."""
        return self.directory.seed

    @property
    def generation(self) -> int:
        """The generation."""
        return self.directory.generation


@dataclass(frozen=True)
class ArmGroup:
    """All arms of one learner. Arms are in the order of the config, entries by arm, seed and generation."""

    learner: str
    arms: tuple[str, ...]
    entries: tuple[Entry, ...]
    baselines: Mapping[str, str] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def roles(self) -> dict[str, Role]:
        """The role of each arm. Without a configuration the reference is the baseline and any other arm `other`."""
        empty: Mapping[str, Any] = {}
        roles = {}
        for arm in self.arms:
            config, reference = (self.configs.get(name, empty) for name in (arm, self.baseline_of(arm)))
            is_reference = arm == self.baseline_of(arm)
            roles[arm] = role_of(config, reference) if config and reference else BASELINE if is_reference else OTHER
        return roles

    @cached_property
    def catalog(self) -> Catalog:
        """How the metrics are read; where generations define one differently, the last one counts."""
        return Catalog(self.learner, {name: one for entry in self.entries for name, one in entry.definitions.items()})

    @cached_property
    def common_generation(self) -> int | None:
        """The last generation that every seed of every arm has finished; None if there is none."""
        recorded: dict[tuple[str, int], set[int]] = {}
        for entry in self.entries:
            recorded.setdefault((entry.arm, entry.seed), set()).add(entry.generation)
        return max(set.intersection(*recorded.values()), default=None) if recorded else None

    @property
    def compared_arms(self) -> tuple[str, ...]:
        """The arms that have another arm as their baseline."""
        return tuple(arm for arm in self.arms if self.baseline_of(arm) != arm and self.baseline_of(arm) in self.arms)

    def baseline_of(self, arm: str) -> str:
        """The baseline of `arm`: in a grid the first level of the last axis in its setting, else the first arm."""
        return self.baselines.get(arm, self.arms[0])

    @cached_property
    def names(self) -> set[str]:
        """The metrics that at least one entry has."""
        return {name for entry in self.entries for name in entry.metrics}

    def entries_of(self, arm: str) -> tuple[Entry, ...]:
        """The entries of `arm`."""
        return self._by_arm.get(arm, ())

    @cached_property
    def _by_arm(self) -> dict[str, tuple[Entry, ...]]:
        return {arm: tuple(entry for entry in self.entries if entry.arm == arm) for arm in self.arms}

    def by_seed(self, arm: str, value_of: Callable[[Entry], Value | None]) -> dict[int, dict[int, Value]]:
        """seed -> generation -> value of the entry, where it is not None."""
        by_seed: dict[int, dict[int, Value]] = {}
        for entry in self.entries_of(arm):
            value = value_of(entry)
            if value is not None:
                by_seed.setdefault(entry.seed, {})[entry.generation] = value
        return by_seed

    def series(self, arm: str, metric: str) -> dict[int, dict[int, float]]:
        """seed -> generation -> value of `metric`, finite values only."""

        def finite(entry: Entry) -> float | None:
            value = entry.metrics.get(metric, math.nan)
            return value if math.isfinite(value) else None

        return self.by_seed(arm, finite)

    def generations(self) -> list[int]:
        """The generations that at least one arm has finished, ascending."""
        return sorted({entry.generation for entry in self.entries})


@dataclass(frozen=True)
class UnfinishedChain:
    """An arm and seed that lacks a generation. `last` is the last finished one, None if there is none.

    `missing` is the first one before `last` that is neither finished nor begun.
    """

    arm: str
    seed: int
    last: int | None
    working_on: int | None
    missing: int | None = None


@dataclass(frozen=True)
class LabRun:
    """A laboratory run.

    `arms` holds every arm, also one without a finished generation; `grid` the levels of each axis. `names_code` says
    that the configuration names code of the user's own.
    """

    directory: RunDirectory
    name: str
    description: str
    config_text: str
    arms: tuple[str, ...]
    grid: Mapping[str, tuple[str, ...]]
    groups: tuple[ArmGroup, ...]
    unfinished: tuple[UnfinishedChain, ...]
    num_finished: int
    names_code: bool = False


def settings_of(grid: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """setting -> level -> arm. A setting combines all axes but the last; a level is a value of the last axis."""
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
    directory = RunDirectory.open(Path(path))
    config_text = directory.config_text()
    config = directory.config_tree()
    cells = directory.generation_dirs(only_done=False)
    entries = [_entry(cell) for cell in cells if cell.done]
    arms, grid = _arms(config, cells), _grid(config)
    learners = sorted({e.learner for e in entries}, key=lambda name: _first_arm(name, entries, arms))
    return LabRun(
        directory=directory,
        name=excerpt(str(config.get("name") or directory.path.resolve().name), _LONGEST_NAME),
        description=excerpt(str(config.get("description") or ""), _LONGEST_SENTENCE),
        config_text=config_text,
        arms=arms,
        grid=grid,
        groups=tuple(_group(learner, entries, arms, grid, config) for learner in learners),
        unfinished=tuple(_unfinished(directory, config, cells, arms)),
        num_finished=len(entries),
        names_code=_names_code(config),
    )


def _names_code(tree: object) -> bool:
    if isinstance(tree, Mapping):
        return "code" in (tree.get("name"), tree.get("learner")) or any(map(_names_code, tree.values()))
    return isinstance(tree, list) and any(map(_names_code, tree))


def _entry(cell: GenerationDir) -> Entry:
    tree = cell.metrics()
    metrics = {name: float(value) for name, value in tree["metrics"].items()}
    try:
        definitions = parse_definitions(tree.get("definitions", {}))
    except ValueError as error:
        raise InputError(
            f"{cell.path}: the definition {error}. Run the same command again, or pack the run again."
        ) from None
    return Entry(cell, tree["learner"], metrics, tree["tables"], definitions)


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


_RUN_KEYS = {"name", "description", "preset", "seeds", "keep_models", "device", "num_threads", "grid", "arms"}


def arm_configs(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The whole configuration of each arm: what all share stands once, above the arms."""
    shared = {key: value for key, value in config.items() if key not in _RUN_KEYS}
    arms = config.get("arms")
    trees = {
        str(name): {**shared, **(tree if isinstance(tree, Mapping) else {})}
        for name, tree in (arms if isinstance(arms, Mapping) else {}).items()
    }
    return {name: tree for name, tree in trees.items() if "learner" in tree}


def _group(
    learner: str,
    entries: list[Entry],
    arms: tuple[str, ...],
    grid: Mapping[str, Sequence[str]],
    config: Mapping[str, Any],
) -> ArmGroup:
    group_entries = sorted(
        (entry for entry in entries if entry.learner == learner),
        key=lambda entry: (arms.index(entry.arm), entry.seed, entry.generation),
    )
    rows = [list(row.values()) for row in settings_of(grid).values()] if grid else []
    baselines = {arm: row[0] for row in rows for arm in row}
    names = tuple(dict.fromkeys(entry.arm for entry in group_entries))
    return ArmGroup(learner, names, tuple(group_entries), baselines, arm_configs(config))


def _unfinished(
    directory: RunDirectory, config: Mapping[str, Any], cells: list[GenerationDir], arms: tuple[str, ...]
) -> Iterator[UnfinishedChain]:
    done: list[GenerationDir] = []
    finished: dict[tuple[str, int], list[int]] = {}
    started: dict[tuple[str, int], list[int]] = {}
    for cell in cells:
        chains = started
        if cell.done:
            done.append(cell)
            chains = finished
        chains.setdefault((cell.arm, cell.seed), []).append(cell.generation)
    seeds = sorted({*directory.record.seeds, *(cell.seed for cell in cells)})
    planned = directory.record.chains
    for arm in arms:
        every = _setting(config, arm, "record_every")
        step = every if isinstance(every, int) and every > 0 else 1
        for seed in seeds:
            if planned and (arm, seed) not in planned:
                continue
            end = planned[arm, seed] - 1 if planned else _end(config, arm, done)
            finished_ones, begun = finished.get((arm, seed), []), started.get((arm, seed), [])
            last, working_on = max(finished_ones, default=None), min(begun, default=None)
            known = {*finished_ones, *begun}
            missing = next((g for g in range(0, last or 0, step) if g not in known), None)
            if working_on is not None or last is None or last < end or missing is not None:
                yield UnfinishedChain(arm, seed, last, working_on, missing)


def _end(config: Mapping[str, Any], arm: str, done: list[GenerationDir]) -> int:
    """The last generation that `arm` should reach, counted from 0."""
    stated = _setting(config, arm, "generations")
    reached = max((cell.generation for cell in done if cell.arm == arm), default=0)
    return max(stated - 1, reached) if isinstance(stated, int) else reached


def _setting(config: Mapping[str, Any], arm: str, key: str) -> object:
    """The value of `key` for `arm`: its own, or else what all arms share."""
    arms = config.get("arms")
    tree = arms.get(arm) if isinstance(arms, Mapping) else None
    value = tree.get(key) if isinstance(tree, Mapping) else None
    return config.get(key) if value is None else value
