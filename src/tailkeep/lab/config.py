"""The laboratory's configuration: shared keys, a base study, and arms as named overrides of the base.

    seeds: [0, 1, 2]
    learner: causal_lm            # the base study: every key that is not one of the run's own
    loss: {name: cross_entropy}
    arms:
      plain: {}
      truncated: {loss: {name: truncated, threshold: 0.99}}

Rule: an override beats the chosen scale, which beats the file, and within each an arm beats the base. An arm that
names another `learner` takes nothing of the base's, since its keys belong to another kind.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from tailkeep.config import Settings, Tree, dump_tree, merge, parse_assignments, read_yaml, validate
from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.settings import CausalLMStudy
from tailkeep.lab.gaussian import GaussianStudy
from tailkeep.lab.mixture import MixtureStudy
from tailkeep.lab.recursion import KeepModels
from tailkeep.lab.study import Positive, Study
from tailkeep.runs.storage import TEMPORARY


def _names_a_folder(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", name) or name.endswith(TEMPORARY):
        raise ValueError(
            "an arm's name becomes a folder. Use up to 60 letters, digits, '-', '_' and '.', "
            f"a letter or digit first and no {TEMPORARY!r} at the end."
        )
    return name


ArmName = Annotated[str, AfterValidator(_names_a_folder)]


class UserStudy(Study):
    """An arm whose learner is the caller's own, handed to `run(..., learners={id: ...})`.

    Change `version` when the learner changes: it is part of the fingerprint.
    """

    learner: Literal["user"]
    id: str
    version: str
    options: dict[str, Any] = Field(default_factory=dict)


AnyStudy = Annotated[CausalLMStudy | GaussianStudy | MixtureStudy | UserStudy, Field(discriminator="learner")]


class LabConfig(Settings):
    """A whole run: every arm under every seed. `threads` is per worker process."""

    name: str = "lab"
    shows: str = ""
    scale: str | None = None
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    keep_models: KeepModels = "last"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Positive = 1
    arms: Annotated[dict[ArmName, AnyStudy], Field(min_length=1)]

    @property
    def cells(self) -> int:
        """How many cells a finished run has."""
        return len(self.seeds) * sum(len(study.recorded) for study in self.arms.values())

    @model_validator(mode="after")
    def _device_is_used(self) -> Self:
        if self.device == "cuda" and not any(s.learner in {"causal_lm", "user"} for s in self.arms.values()):
            raise ValueError("device 'cuda' has no effect: no arm here computes on one; leave it out")
        return self

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed stands here twice; keep one")
        return seeds


_RUN_KEYS = frozenset(LabConfig.model_fields) - {"arms"}


def load(source: Path | Mapping[str, Any], *, overrides: Sequence[str] = ()) -> LabConfig:
    """The configuration in a file or a mapping, with `overrides` such as `scale=full` or `training.epochs=2` on top.

    Precedence is override > the chosen scale > file > default.

    Raises:
        ConfigError: unknown keys, values that cannot be used, a scale that the file does not offer.
        InputError: the file cannot be read.
    """
    tree = read_yaml(source) if isinstance(source, Path) else source
    return parse(tree, parse_assignments(overrides), name=str(source) if isinstance(source, Path) else "config")


def parse(tree: Mapping[str, Any], overrides: Mapping[str, Any], *, name: str) -> LabConfig:
    """`tree` with its scale and `overrides` applied, checked; `name` stands in the messages."""
    layers = [_Layer.of(layer, name) for layer in (*_scaled(tree, overrides, name), overrides)]
    run: Tree = {}
    base: Tree = {}
    for layer in layers:
        run = merge(run, layer.run)
        base = _merge_study(base, layer.base)
    arms = {arm: _arm(arm, base, layers) for layer in layers for arm in layer.arms} or {"plain": base}
    try:
        return validate(LabConfig, {**run, "arms": arms}, source=name)
    except ConfigError as error:
        raise ConfigError(_without_repeats(str(error), arms, base, name)) from None


def dump(config: LabConfig) -> str:
    """`config` as YAML that `load` reads back: what all arms share stands once, above the arms."""
    tree = config.model_dump(mode="json")
    arms: dict[str, Tree] = tree.pop("arms")
    first = next(iter(arms.values()))
    shared = {key: value for key, value in first.items() if all(a.get(key, ...) == value for a in arms.values())}
    own = {name: {k: v for k, v in arm.items() if k not in shared} for name, arm in arms.items()}
    return dump_tree({**tree, **shared, "arms": own})


@dataclass(frozen=True)
class _Layer:
    """What one source sets: keys of the run, of the base study, and of single arms."""

    run: Tree
    base: Tree
    arms: Mapping[str, Tree]

    @classmethod
    def of(cls, tree: Mapping[str, Any], name: str) -> "_Layer":
        arms = tree.get("arms") or {}
        if not isinstance(arms, Mapping) or not all(isinstance(arm or {}, Mapping) for arm in arms.values()):
            raise ConfigError(f"{name}: arms: expected names with keys of their own, such as `arms: {{plain: {{}}}}`.")
        run = {key: value for key, value in tree.items() if key in _RUN_KEYS}
        base = {key: value for key, value in tree.items() if key not in _RUN_KEYS and key != "arms"}
        return cls(run, base, {str(arm): dict(keys or {}) for arm, keys in arms.items()})


def _arm(arm: str, base: Tree, layers: Sequence[_Layer]) -> Tree:
    """The arm's study, layer upon layer: its own keys alone if it studies another kind than `base`."""
    own: Tree = {}
    study: Tree = {}
    for layer in layers:
        keys = layer.arms.get(arm, {})
        study = merge(layer.base, own) if _is_other_learner(study, layer.base) else merge(study, layer.base)
        own, study = _merge_study(own, keys), merge(study, keys)
    return own if _is_other_learner(base, own) else study


def _scaled(tree: Mapping[str, Any], overrides: Mapping[str, Any], name: str) -> tuple[Tree, Tree]:
    """The file without its scales, and the keys of the chosen one."""
    plain = {key: value for key, value in tree.items() if key != "scales"}
    scales = tree.get("scales") or {}
    if not isinstance(scales, Mapping) or not all(isinstance(keys or {}, Mapping) for keys in scales.values()):
        raise ConfigError(f"{name}: scales: expected names with keys, such as `scales: {{quick: {{generations: 3}}}}`.")
    scale = overrides.get("scale", tree.get("scale"))
    if scale in scales:
        return plain, {**(scales[scale] or {}), "scale": scale}
    # A dumped configuration still says which scale it came from, and offers none.
    if scales or scale != tree.get("scale"):
        known = f"Known: {', '.join(map(str, scales))}." if scales else "It offers none; leave the scale out."
        raise ConfigError(f"{name}: scale: {scale!r} is not offered here. {known}")
    return plain, {}


def _merge_study(base: Mapping[str, Any], override: Mapping[str, Any]) -> Tree:
    return dict(override) if _is_other_learner(base, override) else merge(base, override)


def _is_other_learner(base: Mapping[str, Any], override: Mapping[str, Any]) -> bool:
    return "learner" in base and "learner" in override and base["learner"] != override["learner"]


def _without_repeats(message: str, arms: Mapping[str, Tree], base: Tree, name: str) -> str:
    """`message` with each fault that the base alone shows too told once, under the base's key."""
    try:
        validate(LabConfig, {"arms": {"base": base}}, source=name)
        faults_of_base: set[str] = set()
    except ConfigError as error:
        faults_of_base = {line.replace("arms.base.", "") for line in str(error).splitlines()}
    lines: dict[str, None] = {}
    for line in message.splitlines():
        shorter = (line.replace(f"arms.{arm}.", "") for arm in arms)
        lines[next((short for short in shorter if short in faults_of_base), line)] = None
    return "\n".join(lines)
