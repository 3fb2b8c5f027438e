"""The laboratory's configuration: shared keys, a base study, and arms as named overrides of the base.

    seeds: [0, 1, 2]
    learner: causal_lm            # the base study: every key that is not one of the run's own
    loss: {name: cross_entropy}
    arms:
      plain: {}
      truncated: {loss: {name: truncated, threshold: 0.99}}

Rule: an arm that names another `learner` starts from nothing of the base's, since its keys belong to another kind.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator

from tailkeep.config import Settings, merge, parse_assignments, read_yaml, validate
from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.settings import CausalLMStudy
from tailkeep.lab.gaussian import GaussianStudy
from tailkeep.lab.mixture import MixtureStudy
from tailkeep.lab.recursion import KeepModels
from tailkeep.lab.study import Positive, Study

Tree = dict[str, Any]
ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)]


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
    tree = read_yaml(source) if isinstance(source, Path) else dict(source)
    return parse(tree, parse_assignments(overrides), name=str(source) if isinstance(source, Path) else "config")


def parse(tree: Mapping[str, Any], overrides: Mapping[str, Any], *, name: str) -> LabConfig:
    """`tree` with its scale and `overrides` applied, checked; `name` stands in the messages."""
    tree = _scaled(tree, overrides.get("scale", tree.get("scale")), name)
    tree = _merge_study(tree, overrides)
    arms = tree.get("arms") or {"plain": {}}
    if not isinstance(arms, Mapping) or not all(isinstance(arm or {}, Mapping) for arm in arms.values()):
        raise ConfigError(f"{name}: arms: expected names with overrides, such as `arms: {{plain: {{}}}}`.")
    base = {key: value for key, value in tree.items() if key not in _RUN_KEYS and key != "arms"}
    whole = {key: value for key, value in tree.items() if key in _RUN_KEYS}
    whole["arms"] = {str(arm): _merge_study(base, override or {}) for arm, override in arms.items()}
    try:
        return validate(LabConfig, whole, source=name)
    except ConfigError as error:
        raise ConfigError(_without_repeats(str(error), arms)) from None


def dump(config: LabConfig) -> str:
    """`config` as YAML that `load` reads back: what all arms share stands once, above the arms."""
    tree = config.model_dump(mode="json")
    arms: dict[str, Tree] = tree.pop("arms")
    first = next(iter(arms.values()))
    shared = {key: value for key, value in first.items() if all(a.get(key, ...) == value for a in arms.values())}
    own = {name: {k: v for k, v in arm.items() if k not in shared} for name, arm in arms.items()}
    return str(yaml.safe_dump({**tree, **shared, "arms": own}, sort_keys=False, allow_unicode=True, width=100))


def _scaled(tree: Mapping[str, Any], scale: Any, name: str) -> Tree:
    scales = tree.get("scales") or {}
    plain = {key: value for key, value in tree.items() if key != "scales"}
    if not scales:
        return plain
    if scale not in scales:
        raise ConfigError(f"{name}: scale: {scale!r} is not offered here. Known: {', '.join(map(str, scales))}.")
    return _merge_study(plain, {**(scales[scale] or {}), "scale": scale})


def _merge_study(base: Mapping[str, Any], override: Mapping[str, Any]) -> Tree:
    if "learner" in override and override["learner"] != base.get("learner", override["learner"]):
        base = {key: value for key, value in base.items() if key in _RUN_KEYS or key == "arms"}
    return merge(base, override)


def _without_repeats(message: str, arms: Mapping[str, Any]) -> str:
    """A fault of the base shows up in every arm: name the base's key, once."""
    lines: dict[str, None] = {}
    for line in message.splitlines():
        for arm, override in arms.items():
            prefix = f"arms.{arm}."
            if prefix in line and not _sets(override or {}, line.split(prefix, 1)[1]):
                line = line.replace(prefix, "")
        lines[line] = None
    return "\n".join(lines)


def _sets(override: Mapping[str, Any], path: str) -> bool:
    """Whether `override` itself gives the first key of the dotted `path` (or changes the learner)."""
    first = path.replace("'", ".").replace(":", ".").split(".")[0]
    return first in override or "learner" in override
