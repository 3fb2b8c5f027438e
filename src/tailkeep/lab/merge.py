"""Several runs of the laboratory, or packs of them, joined into one.

Rule: arms of one name must be the same arm, and a generation that two runs have must have the same metrics. Nothing is
computed.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from tailkeep.config import parse_yaml
from tailkeep.errors import FingerprintError, InputError
from tailkeep.lab.growth import arm_differences, common_keys, merge_configs
from tailkeep.runs import Addition, GenerationDir, RunDirectory, RunRecord, Storage, differences, hash_tree, utc_now
from tailkeep.runs.directory import collected
from tailkeep.runs.generation_dir import link_file
from tailkeep.runs.pack import write_pack
from tailkeep.runs.record import utc_text, without_recomputed

_UNLIMITED_KB = 10**9
_NOT_OF_A_CELL = ("arms", "seeds")


@dataclass(frozen=True)
class _Part:
    """One of the runs: its arms' inputs and its environments by their hash, whatever the age of its record."""

    path: Path
    run: RunDirectory
    arms: Mapping[str, Any]
    environments: Mapping[str, Any]
    history: tuple[Addition, ...]

    @classmethod
    def read(cls, path: Path, source: Path) -> "_Part":
        """The run at `path`, whose files are read at `source`: there is its pack, if it is merged with packs."""
        run = RunDirectory.open(source)
        record = run.record
        if record.kind != "lab":
            raise InputError(f"{path} holds a run of kind {record.kind!r}. Give runs of `tailkeep lab` or their packs.")
        arms = {
            name: {key: value for key, value in arm.items() if key != "generations"}
            for name, arm in record.sources.get("arms", {}).items()
        }
        if record.history:
            return cls(path, run, arms, record.sources["environments"], without_recomputed(record.history))
        # Older than fingerprints of generations: one environment for all arms.
        environment = {key: value for key, value in record.sources.items() if key not in _NOT_OF_A_CELL}
        generations = {name: arm.get("generations", 1) for name, arm in record.sources.get("arms", {}).items()}
        at = utc_text((source / "run.json").stat().st_mtime)
        addition = Addition(at=at, arms=generations, seeds=record.seeds)
        return cls(path, run, arms, {hash_tree(environment): environment}, (addition,))


def merge_runs(
    paths: Sequence[Path], out: Path, *, accept_versions: bool = False, storage: Storage | None = None
) -> RunDirectory:
    """Join the runs and packs at `paths` in the new folder `out`: all arms, seeds and finished generations.

    Files are linked where the file system can. If one of them is a pack, so is the result. Of a generation that several
    have, the first is taken. The name and the description are those of the first run.

    Raises:
        FingerprintError: an arm of two runs is not the same arm, they have other environments and these are not
            accepted, or a generation has other metrics in another run.
        InputError: one of them is no run of the laboratory, or `out` is there already.
        ConfigError: their grids cannot be one.
        StorageError: the file system refused a write.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already. Give a new --out.")
    with tempfile.TemporaryDirectory() as scratch:
        sources = _of_one_kind(paths, Path(scratch))
        parts = [_Part.read(path, source) for path, source in zip(paths, sources, strict=True)]
        _check_arms(parts)
        accepted = _environment_differences(parts)
        if accepted and not accept_versions:
            listed = "\n".join(f"  {line}" for line in accepted)
            raise FingerprintError(
                f"the runs were computed in different environments, which may change results. What differs:\n{listed}\n"
                "Give --accept-versions, which the report then shows, or merge others."
            )
        cells = _cells(parts)
        record, config = _record(parts, [path.resolve().name for path in paths], accepted), _config(parts)
        files = {"run.json": record.text(), "config.yaml": config, **collected(cells)}
        (storage or Storage()).write_folder(out, lambda folder: _fill(folder, files, cells))
    return RunDirectory.open(out)


def _of_one_kind(paths: Sequence[Path], scratch: Path) -> list[Path]:
    """`paths`, with each run packed if one of them is a pack."""
    packed = [RunDirectory.open(path).record.packed for path in paths]
    if not any(packed):
        return list(paths)
    return [
        path if is_pack else write_pack(path, scratch / str(number), max_kb=_UNLIMITED_KB).path
        for number, (path, is_pack) in enumerate(zip(paths, packed, strict=True))
    ]


def _check_arms(parts: Sequence[_Part]) -> None:
    for first, second in combinations(parts, 2):
        shared = [arm for arm in first.arms if arm in second.arms]
        lines = [f"  {line}" for arm in shared for line in arm_differences(arm, first.arms[arm], second.arms[arm])]
        if lines:
            listed = "\n".join(lines)
            raise FingerprintError(
                f"{first.path} and {second.path} have other arms of one name. What differs (first there, "
                f"second here):\n{listed}\nRename an arm and compute it again, or merge others."
            )


def _environment_differences(parts: Sequence[_Part]) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            line
            for first, second in combinations(parts, 2)
            for one in first.environments.values()
            for other in second.environments.values()
            for line in differences(*common_keys(one, other))
        )
    )


def _cells(parts: Sequence[_Part]) -> list[GenerationDir]:
    """The finished generations of all parts, by arm, seed and generation."""
    cells: dict[tuple[str, int, int], GenerationDir] = {}
    runs: dict[tuple[str, int, int], Path] = {}
    for part in parts:
        for cell in part.run.generation_dirs():
            key = (cell.arm, cell.seed, cell.generation)
            if key in cells and _differ(cells[key], cell):
                raise FingerprintError(
                    f"{runs[key]} and {part.path} have different metrics of generation {cell.generation} of "
                    f"{cell.arm}, seed {cell.seed}. Merge only one of the two runs."
                )
            cells.setdefault(key, cell)
            runs.setdefault(key, part.path)
    return [cells[key] for key in sorted(cells)]


def _differ(first: GenerationDir, second: GenerationDir) -> bool:
    # As text, since NaN is not equal to itself.
    texts = [repr(sorted(cell.metrics().get("metrics", {}).items())) for cell in (first, second)]
    return texts[0] != texts[1]


def _record(parts: Sequence[_Part], names: Sequence[str], accepted: tuple[str, ...]) -> RunRecord:
    seeds = tuple(dict.fromkeys(seed for part in parts for seed in part.run.record.seeds))
    history = sorted((addition for part in parts for addition in part.history), key=lambda addition: addition.at)
    merge = Addition(at=utc_now(), arms={}, seeds=(), accepted=accepted, merged=tuple(names))
    record = RunRecord.of(
        "lab",
        {
            "arms": {name: arm for part in reversed(parts) for name, arm in part.arms.items()},
            "seeds": list(seeds),
            "environments": {key: tree for part in parts for key, tree in part.environments.items()},
        },
        installed={name: version for part in reversed(parts) for name, version in part.run.record.versions.items()},
        seeds=seeds,
        history=(*history, merge),
    )
    return record.model_copy(update={"packed": any(part.run.record.packed for part in parts)})


def _config(parts: Sequence[_Part]) -> str:
    merged, *others = (part.run.config_tree() for part in parts)
    for config in others:
        merged = parse_yaml(merge_configs(merged, config), source="config")
    return merge_configs(merged, merged)


def _fill(folder: Path, files: Mapping[str, str], cells: Sequence[GenerationDir]) -> None:
    for cell in cells:
        target = folder / "cells" / cell.arm / str(cell.seed) / str(cell.generation)
        for path in sorted(cell.path.rglob("*")):
            if path.is_file():
                linked = target / path.relative_to(cell.path)
                linked.parent.mkdir(parents=True, exist_ok=True)
                link_file(path, linked)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
