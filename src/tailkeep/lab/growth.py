"""A run of the laboratory that is continued: what it may become, and which of its generations are shared.

Rule: a run is a set of arms under seeds that only grows. An arm never changes unless its generations are moved aside,
and another version or device is never used unless it is accepted and recorded.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailkeep.config import Tree, parse_yaml
from tailkeep.errors import ConfigError, FingerprintError, InputError
from tailkeep.lab.config import LabConfig, dump, dump_arms, split_arms
from tailkeep.lab.layers import combinations
from tailkeep.lab.learners import ArmSources
from tailkeep.runs import Addition, GenerationDir, RunDirectory, RunRecord, differences, utc_now, versions

_logger = logging.getLogger(__name__)

ArmChain = tuple[str, int]
"""An arm and a seed."""


@dataclass(frozen=True)
class Request:
    """A call of `lab.run`: the arms and seeds that it names, and what it allows.

    `accept_versions` allows an environment other than that of the generations that are there; the generations of the
    arms `recompute` are moved aside first.
    """

    config: LabConfig
    sources: Mapping[str, ArmSources]
    accept_versions: bool = False
    recompute: Collection[str] = ()

    @property
    def chains(self) -> list[ArmChain]:
        """Each arm under each seed, seed by seed."""
        return [(arm, seed) for seed in self.config.seeds for arm in self.config.arms]

    def record(self) -> RunRecord:
        """The record of a new run."""
        return RunRecord.of(
            "lab",
            {
                "arms": {name: source.inputs for name, source in self.sources.items()},
                "seeds": list(self.config.seeds),
                "environments": self._environments,
            },
            installed=self._versions,
            seeds=self.config.seeds,
            history=(self._addition(),),
        )

    def extend(self, run: RunDirectory) -> tuple[RunRecord, str]:
        """The record and the configuration of the run that is there once this request is added to it.

        Arms to recompute are moved aside.

        Raises:
            FingerprintError: an arm has changed, or the environment has and is not accepted.
            InputError: it is a pack, or older than the fingerprints of generations.
            ConfigError: an arm to recompute is not there or has more seeds, or the two cannot be one run.
        """
        old = run.record
        self._check_kind(run)
        for arm in self.recompute:
            if arm not in self.config.arms or arm not in old.sources["arms"]:
                known = ", ".join(name for name in old.sources["arms"] if name in self.config.arms)
                raise ConfigError(f"--recompute: no arm {arm!r} is both in the config and in {run.path} ({known}).")
            self._check_all_seeds(run, arm)
        self._check_arms(run)
        accepted = self._check_environments(run)
        text = self._config_of(run)
        for arm in self.recompute:
            run.set_aside(arm)
        return self._extended(old, accepted), text

    def _check_kind(self, run: RunDirectory) -> None:
        if run.record.packed or run.record.kind != "lab":
            RunRecord.of("lab", {}, installed={}, seeds=()).check_same_run(run.record, str(run.path))
        if not run.record.history:
            raise InputError(
                f"{run.path} was written by an older version, whose generations have no fingerprints. It can be "
                "reported on, but not continued. Give another --out."
            )

    def _check_all_seeds(self, run: RunDirectory, arm: str) -> None:
        """Moved aside are all seeds of an arm, so all are to be computed again."""
        run_seeds = [seed for name, seed in run.record.chains if name == arm]
        if not set(run_seeds) <= set(self.config.seeds):
            every = sorted({*run_seeds, *self.config.seeds})
            raise ConfigError(
                f"--recompute {arm}: the run has seeds {_listed(run_seeds)} of that arm, and the call names "
                f"{_listed(self.config.seeds)}. Name them all, with --set seeds=[{_listed(every, sep=',')}]."
            )

    def _check_arms(self, run: RunDirectory) -> None:
        old = run.record.sources["arms"]
        new = self._plain(name for name in self.sources if name not in self.recompute)
        changed = [name for name in new if name in old and any(differences(old[name], new[name]))]
        if changed:
            lines = "\n".join(f"  {line}" for name in changed for line in arm_differences(name, old[name], new[name]))
            raise FingerprintError(
                f"{run.path} holds another run. What differs:\n{lines}\n"
                f"Give the arm another name, --recompute {changed[0]} to move its generations aside, or another --out."
            )
        planned = run.record.chains
        for (arm, seed), generations in planned.items():
            if arm in self.config.arms and arm not in self.recompute:
                _check_last_stays(self.config, arm, seed, generations)

    def _check_environments(self, run: RunDirectory) -> tuple[str, ...]:
        """The differences from the environments that are there, which are accepted."""
        old = run.record.sources["environments"]
        lines = dict.fromkeys(
            line
            for key, environment in self._environments.items()
            if key not in old
            for other in old.values()
            for line in differences(*common_keys(other, environment))
        )
        if lines and not self.accept_versions:
            listed = "\n".join(f"  {line}" for line in lines)
            raise FingerprintError(
                f"{run.path} was computed with another environment, which may change results. What differs:\n{listed}\n"
                "Use the same, or --accept-versions, which the report then shows, or another --out."
            )
        return tuple(lines)

    def _config_of(self, run: RunDirectory) -> str:
        path = run.path / "config.yaml"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if not (self.recompute or self._grown(run.record)):
            return text or dump(self.config)
        new = parse_yaml(dump(self.config), source="config")
        return merge_configs(parse_yaml(text, source=str(path)), new, self.recompute)

    def _extended(self, old: RunRecord, accepted: tuple[str, ...]) -> RunRecord:
        if not (accepted or self.recompute or self._grown(old)):
            return old
        arms = {**old.sources["arms"], **self._plain(self.sources)}
        seeds = tuple(dict.fromkeys([*old.seeds, *self.config.seeds]))
        environments = {**old.sources["environments"], **self._environments}
        return RunRecord.of(
            "lab",
            {"arms": arms, "seeds": list(seeds), "environments": environments},
            installed={**old.versions, **self._versions},
            seeds=seeds,
            history=(*old.history, self._addition(accepted)),
        )

    def _grown(self, old: RunRecord) -> bool:
        planned = old.chains
        return any(self.config.arms[arm].generations > planned.get((arm, seed), 0) for arm, seed in self.chains)

    def _addition(self, accepted: tuple[str, ...] = ()) -> Addition:
        arms = {name: arm.generations for name, arm in self.config.arms.items()}
        return Addition(
            at=utc_now(),
            arms=arms,
            seeds=self.config.seeds,
            accepted=accepted,
            recomputed=tuple(self.recompute),
        )

    def _plain(self, names: Iterable[str]) -> dict[str, Any]:
        """The inputs of arms as a record holds them."""
        inputs = {name: self.sources[name].inputs for name in names}
        return RunRecord.of("lab", inputs, installed={}, seeds=()).sources

    @property
    def _environments(self) -> dict[str, Any]:
        return {source.environment_hash: source.environment for source in self.sources.values()}

    @property
    def _versions(self) -> dict[str, str]:
        packages = {name for source in self.sources.values() for name in source.environment["packages"]}
        return versions(*sorted(packages - {"tailkeep", "python"}))


def at_least_planned(config: LabConfig, record: RunRecord) -> LabConfig:
    """`config` with as many generations of each arm as `record` plans: a run never shrinks."""
    planned: dict[str, int] = {}
    for (arm, _), generations in record.chains.items():
        planned[arm] = max(generations, planned.get(arm, 0))
    arms = {
        name: arm.model_copy(update={"generations": max(arm.generations, planned.get(name, 0))})
        for name, arm in config.arms.items()
    }
    return config.model_copy(update={"arms": arms})


def merge_configs(old: Tree, new: Tree, changed: Collection[str] = ()) -> str:
    """One configuration with the arms and seeds of both; the name, description and preset are those of `old`.

    An arm of both is that of `old` with the larger number of generations, or that of `new` if it is in `changed`.

    Raises:
        ConfigError: their grids have other axes.
    """
    old_run, old_arms = split_arms(old)
    new_run, new_arms = split_arms(new)
    arms: dict[str, Tree] = dict(old_arms)
    arms.update({name: arm for name, arm in new_arms.items() if name in changed or name not in old_arms})
    for name in (name for name in old_arms if name in new_arms and name not in changed):
        generations = [arm.get("generations", 0) for arm in (old_arms[name], new_arms[name])]
        arms[name] = {**arms[name], "generations": max(generations)}
    run: Tree = dict(new_run)
    run.update({key: old_run[key] for key in ("name", "description", "preset") if key in old_run})
    run["seeds"] = list(dict.fromkeys([*old_run.get("seeds", ()), *new_run.get("seeds", ())]))
    run["grid"] = _merged_grid(old_run.get("grid") or {}, new_run.get("grid") or {})
    return dump_arms(run, arms)


def check_generations(run: RunDirectory, request: Request) -> None:
    """Check the fingerprints of what is there of the request's chains, and that each can be continued.

    An unfinished generation of another environment is removed, so that none is of two.

    Raises:
        FingerprintError: a generation is of other inputs.
        InputError: the model that the next generation begins with was not kept.
    """
    environments = run.record.sources["environments"]
    for arm, seed in request.chains:
        source, config = request.sources[arm], request.config.arms[arm]
        cells = [run.generation_dir(arm, seed, generation) for generation in config.recorded]
        for cell in cells:
            expected = source.fingerprint(seed, cell.generation)
            cell.restore_fingerprint(expected)
            recorded = cell.fingerprint() if cell.begun else {}
            if cell.begun and not cell.done and not recorded:
                # What a generation was made of is unknown, so it is made again.
                run.storage.remove_folder(cell.path)
                continue
            if cell.begun and (
                recorded.get("inputs") != expected["inputs"] or recorded.get("environment") not in environments
            ):
                raise FingerprintError(
                    f"{cell.path} holds a generation of other inputs. Give --recompute {arm}, or another --out."
                )
            if cell.begun and not cell.done and recorded != expected:
                run.storage.remove_folder(cell.path)
        last = max((cell.generation for cell in cells if cell.done), default=None)
        missing = [cell for cell in cells if not cell.done]
        if last is None or not missing:
            continue
        if not missing[0].model.exists() and not run.generation_dir(arm, seed, last).model.exists():
            raise InputError(
                f"{run.path}: generation {last} of {arm}, seed {seed}, has no model any more (keep_models), so "
                f"generation {last + 1} cannot follow. Give --recompute {arm}."
            )


def link_first_generations(run: RunDirectory, request: Request) -> None:
    """Give each chain of the request without a generation 0 that of another arm with the same fingerprint, if any."""
    sources: dict[tuple[str, ...], GenerationDir] = {}
    for cell in run.generation_dirs():
        if cell.generation == 0 and cell.model.exists():
            sources.setdefault(_key(cell.fingerprint()), cell)
    for arm, seed in request.chains:
        target = run.generation_dir(arm, seed, 0)
        source = sources.get(_key(request.sources[arm].fingerprint(seed, 0)))
        if source is not None and not target.begun:
            target.link_from(source)


def hint_at_first_models(run: RunDirectory, request: Request) -> None:
    """Say once which arms compute a generation 0 again that is there, because its model was not kept."""
    gone = {
        _key(cell.fingerprint()): cell.arm
        for cell in run.generation_dirs()
        if cell.generation == 0 and not cell.model.exists()
    }
    repeated = {}
    for arm, seed in request.chains:
        other = gone.get(_key(request.sources[arm].fingerprint(seed, 0)))
        if other is not None and not run.generation_dir(arm, seed, 0).begun:
            repeated[arm] = other
    if repeated:
        _logger.warning(
            "%s: generation 0 is computed again. That of %s is the same, but its model was not kept; keep_models: all "
            "keeps it for arms that are added later",
            ", ".join(repeated),
            ", ".join(dict.fromkeys(repeated.values())),
        )


def first_of_equals(run: RunDirectory, request: Request) -> tuple[Sequence[ArmChain], Sequence[ArmChain]]:
    """Chains whose generation 0 is missing: one for each that several share, and those that share none."""
    groups: dict[tuple[str, ...], list[ArmChain]] = {}
    for arm, seed in request.chains:
        if not run.generation_dir(arm, seed, 0).begun:
            groups.setdefault(_key(request.sources[arm].fingerprint(seed, 0)), []).append((arm, seed))
    shared = [chains[0] for chains in groups.values() if len(chains) > 1]
    return shared, [chains[0] for chains in groups.values() if len(chains) == 1]


def _listed(seeds: Iterable[int], *, sep: str = ", ") -> str:
    return sep.join(map(str, seeds))


def _key(fingerprint: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(fingerprint.get(name, "") for name in ("inputs", "environment"))


def arm_differences(arm: str, old: Tree, new: Tree) -> Iterator[str]:
    """A line for each key in which the sources of `arm` differ."""
    return differences({"arms": {arm: old}}, {"arms": {arm: new}})


def common_keys(old: Tree, new: Tree) -> tuple[Tree, Tree]:
    """Both with the keys that both have: arms of another learner use other packages."""
    pairs = {
        key: common_keys(old[key], new[key]) if isinstance(old[key], Mapping) else (old[key], new[key])
        for key in old.keys() & new.keys()
    }
    return {key: pair[0] for key, pair in pairs.items()}, {key: pair[1] for key, pair in pairs.items()}


def _check_last_stays(config: LabConfig, arm: str, seed: int, planned: int) -> None:
    """With `record_every` the last generation is recorded too; after growth it must be one that is recorded anyway."""
    grown = config.arms[arm]
    last = planned - 1
    if last % grown.record_every and grown.generations > planned and seed in config.seeds:
        raise ConfigError(
            f"arms.{arm}.generations: {planned} generations recorded every {grown.record_every} end with generation "
            f"{last}, which a run of {grown.generations} does not record. Give --recompute {arm}, or another --out."
        )


def _merged_grid(old: Tree, new: Tree) -> Tree:
    """The grid that has all the arms of the other."""
    if not old or not new or old == new:
        return old or new
    old_arms, new_arms = (combinations({axis: tuple(grid[axis]) for axis in grid}).keys() for grid in (old, new))
    if list(old) == list(new) and old_arms <= new_arms:
        return new
    if list(old) == list(new) and new_arms <= old_arms:
        return old
    raise ConfigError(
        f"grid: the run has {', '.join(f'{axis} ({len(old[axis])} levels)' for axis in old)}, which the config neither "
        "has nor extends. Add levels to its axes, or give another --out."
    )
