"""Layers of a laboratory's configuration: the file, its chosen preset, the overrides.

Rule: the later layer wins, and within one an arm beats the base. An arm that names another `learner` takes nothing of
the base's, since its keys belong to another kind.
"""

import itertools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tailkeep.config import Tree, dotted, merge, suggest
from tailkeep.errors import ConfigError

_CHOOSE = "To choose arms, name them: --arms NAME,NAME."


@dataclass(frozen=True)
class Layer:
    """What one source sets: keys of the run, of the base study, and of single arms."""

    run: Tree
    base: Tree
    arms: Mapping[str, Tree]

    @classmethod
    def of(cls, tree: Mapping[str, Any], name: str, run_keys: Collection[str]) -> "Layer":
        """The parts of `tree`; `name` stands in the messages.

        Raises:
            ConfigError: `arms` holds something else than names with keys.
        """
        arms = tree.get("arms") or {}
        if not isinstance(arms, Mapping) or not all(isinstance(arm or {}, Mapping) for arm in arms.values()):
            raise ConfigError(
                f"{name}: arms: expected names with keys of their own, such as `arms: {{baseline: {{}}}}`."
            )
        run = {key: value for key, value in tree.items() if key in run_keys}
        base = {key: value for key, value in tree.items() if key not in run_keys and key != "arms"}
        return cls(run, base, {str(arm): dict(keys or {}) for arm, keys in arms.items()})

    def without(self, keys: Collection[str]) -> "Layer":
        """This layer without `keys` of the base."""
        return replace(self, base={key: value for key, value in self.base.items() if key not in keys})


def with_preset(tree: Mapping[str, Any], overrides: Mapping[str, Any], name: str) -> tuple[Tree, Tree]:
    """The file without its presets, and the keys of the chosen one.

    Raises:
        ConfigError: the preset is not offered.
    """
    plain = {key: value for key, value in tree.items() if key != "presets"}
    presets = tree.get("presets") or {}
    if not isinstance(presets, Mapping) or not all(isinstance(keys or {}, Mapping) for keys in presets.values()):
        raise ConfigError(
            f"{name}: presets: expected names with keys, such as `presets: {{quick: {{generations: 3}}}}`."
        )
    preset = overrides.get("preset", tree.get("preset"))
    if preset in presets:
        return plain, {**(presets[preset] or {}), "preset": preset}
    # A dumped configuration still says which preset it came from, and offers none.
    if presets or preset != tree.get("preset"):
        known = f"Known: {', '.join(map(str, presets))}." if presets else "It offers none; leave the preset out."
        raise ConfigError(f"{name}: preset: {preset!r} is not offered here. {known}")
    return plain, {}


def check_overridden(overrides: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse overrides that would make a new arm, or change none of the `known` ones.

    Raises:
        ConfigError: they would.
    """
    arms = overrides.get("arms", {})
    if not isinstance(arms, Mapping) or ("arms" in overrides and not arms):
        raise ConfigError(f"--set arms={json.dumps(arms)}: it sets no key of an arm. {_CHOOSE}")
    for arm, keys in arms.items():
        key = dotted(["arms", arm])
        if arm not in known:
            raise ConfigError(f"--set {key}: there is no such arm.{_nearest(arm, known)}")
        if not isinstance(keys, Mapping) or not keys:
            raise ConfigError(f"--set {key}={json.dumps(keys)}: it sets no key of the arm. {_CHOOSE}")


def choose_arms(arms: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    """`arms` in the order of the source, or all that are `known` if none is named.

    Raises:
        ConfigError: one is not known.
    """
    for arm in arms:
        if arm not in known:
            raise ConfigError(f"--arms: there is no arm {arm!r}.{suggest(arm, known)}")
    return [arm for arm in known if arm in arms] if arms else known


def merge_bases(layers: Iterable[Layer]) -> Tree:
    """The base study, layer upon layer."""
    base: Tree = {}
    for layer in layers:
        base = _merge_study(base, layer.base)
    return base


def merge_layers(layers: Sequence[Layer], arms: Iterable[str]) -> tuple[Tree, Tree, dict[str, Tree]]:
    """The run's keys, the base study, and the study of each of `arms`."""
    run: Tree = {}
    for layer in layers:
        run = merge(run, layer.run)
    base = merge_bases(layers)
    return run, base, {arm: _arm(arm, base, layers) for arm in arms}


def _nearest(arm: str, known: Sequence[str]) -> str:
    cut = next((name for name in known if name.startswith(f"{arm}.")), None)
    if cut is not None:
        return f" A name that holds a dot stands in double quotes: --set '{dotted(['arms', cut])}.KEY=VALUE'."
    return f"{suggest(arm, known)} New ones go into a file."


def _arm(arm: str, base: Tree, layers: Sequence[Layer]) -> Tree:
    """The arm's study, layer upon layer: its own keys alone if it studies another kind than `base`."""
    own: Tree = {}
    study: Tree = {}
    for layer in layers:
        keys = layer.arms.get(arm, {})
        study = merge(layer.base, own) if _is_other_learner(study, layer.base) else merge(study, layer.base)
        own, study = _merge_study(own, keys), merge(study, keys)
    return own if _is_other_learner(base, own) else study


def _merge_study(base: Mapping[str, Any], override: Mapping[str, Any]) -> Tree:
    return dict(override) if _is_other_learner(base, override) else merge(base, override)


def _is_other_learner(base: Mapping[str, Any], override: Mapping[str, Any]) -> bool:
    return "learner" in base and "learner" in override and base["learner"] != override["learner"]


# Arms by the crossing of choices: one arm for each combination of the levels of a grid's axes.
#
#     grid:
#       decoder:
#         greedy: {generation: {decoder: {name: greedy}}}
#         sample: {generation: {decoder: {name: sample}}}
#       loss:
#         baseline: {}
#         truncated: {loss: {name: truncated, threshold: 0.99}}
#
# gives the arms greedy-baseline, greedy-truncated, sample-baseline and sample-truncated. Rule: a report compares the
# levels of the last axis with its first level; the other axes are the settings in which it does so.


Axes = Mapping[str, tuple[str, ...]]
"""The names of the levels of each axis."""


def expanded(tree: Mapping[str, Any], name: str) -> Tree:
    """`tree` with the arms of its `grid` before its own `arms`, which may override them, and names alone in `grid`.

    A grid that holds names alone, as in a dumped configuration, is left as it is. `name` stands in the messages.

    Raises:
        ConfigError: a grid that is not axes of levels with keys.
    """
    grid = tree.get("grid")
    if not grid or (isinstance(grid, Mapping) and not any(isinstance(levels, Mapping) for levels in grid.values())):
        return dict(tree)
    _check(grid, name)
    made: Tree = {}
    for chosen in itertools.product(*(levels.items() for levels in grid.values())):
        arm: Tree = {}
        for _, keys in chosen:
            arm = merge(arm, keys or {})
        made[arm_name(level for level, _ in chosen)] = arm
    axes = {str(axis): [str(level) for level in levels] for axis, levels in grid.items()}
    return {**tree, "grid": axes, "arms": merge(made, tree.get("arms") or {})}


def arm_name(levels: Any) -> str:
    """The name of the arm at these levels."""
    return "-".join(map(str, levels))


def combinations(axes: Axes) -> Mapping[str, tuple[str, ...]]:
    """The levels of each arm of a grid, by the arm's name."""
    return {arm_name(levels): levels for levels in itertools.product(*axes.values())}


def _check(grid: Any, name: str) -> None:
    if not isinstance(grid, Mapping) or not all(_is_axis(levels) for levels in grid.values()):
        raise ConfigError(
            f"{name}: grid: expected axes of levels with keys of their own, such as "
            "`grid: {loss: {baseline: {}, truncated: {loss: {name: truncated}}}}`."
        )
    combined = [arm_name(levels) for levels in itertools.product(*grid.values())]
    if twice := next((arm for arm in combined if combined.count(arm) > 1), None):
        raise ConfigError(f"{name}: grid: two combinations are called {twice!r}. Rename a level.")


def _is_axis(levels: Any) -> bool:
    return (
        isinstance(levels, Mapping)
        and bool(levels)
        and all(isinstance(keys or {}, Mapping) for keys in levels.values())
    )
