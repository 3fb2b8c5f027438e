"""Layers of a laboratory's configuration: what a file extends with its selected preset, the file with its own, the
overrides.

Rule: the later layer wins, and within one an arm beats the base. An arm with another `learner` inherits nothing from
the base.
"""

import itertools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from tailkeep.config import Tree, dotted, merge, suggest
from tailkeep.errors import ConfigError

_CHOOSE = "To choose arms, name them: --arms NAME,NAME."


@dataclass(frozen=True)
class Layer:
    """What one source sets: keys of the run, of the base arm, and of single arms."""

    run: Tree
    base: Tree
    arms: Mapping[str, Tree]

    @classmethod
    def of(cls, tree: Mapping[str, Any], name: str, run_keys: Collection[str]) -> "Layer":
        """The parts of `tree`; `name` stands in the messages.

        Raises:
            ConfigError: `arms` is no mapping of names to keys.
        """
        arms = tree.get("arms") or {}
        if not isinstance(arms, Mapping) or not all(isinstance(arm or {}, Mapping) for arm in arms.values()):
            raise ConfigError(f"{name}: arms: expected a mapping of names to keys, such as `arms: {{baseline: {{}}}}`.")
        run = {key: value for key, value in tree.items() if key in run_keys}
        base = {key: value for key, value in tree.items() if key not in run_keys and key != "arms"}
        return cls(run, base, {str(arm): dict(keys or {}) for arm, keys in arms.items()})

    def without(self, keys: Collection[str]) -> "Layer":
        """This layer without `keys` of the base."""
        return replace(self, base={key: value for key, value in self.base.items() if key not in keys})


FILE_KEYS = ("presets", "extends")
"""Keys of a file that are resolved before its configuration is validated."""


def split_base(tree: Mapping[str, Any], name: str, read: Callable[[str], Tree]) -> list[Tree]:
    """The configuration that `tree` extends, if any, and `tree` without that key.

    `read` gives the configuration in a file or of a recipe.

    Raises:
        ConfigError: that one extends another, or `tree` has a grid.
    """
    rest = {key: value for key, value in tree.items() if key != "extends"}
    if "extends" not in tree:
        return [rest]
    base = read(str(tree["extends"]))
    if "extends" in base:
        raise ConfigError(f"{name}: extends: {tree['extends']} extends {base['extends']} itself. Extend that one.")
    if "grid" in rest:
        raise ConfigError(f"{name}: grid: a configuration that extends another has none. Name its arms under arms.")
    return [base, rest]


def split_presets(trees: Sequence[Tree], overrides: Mapping[str, Any], name: str) -> list[Tree]:
    """Each of `trees` without its presets, and after it its keys of the selected one.

    The selected preset is that of the overrides, else of the last tree that names one.

    Raises:
        ConfigError: the preset is unknown.
    """
    named = [tree["preset"] for tree in trees if tree.get("preset") is not None]
    selected = overrides.get("preset", named[-1] if named else None)
    layers: list[Tree] = []
    known: dict[str, None] = {}
    for tree in trees:
        presets = tree.get("presets") or {}
        if not isinstance(presets, Mapping) or not all(isinstance(keys or {}, Mapping) for keys in presets.values()):
            raise ConfigError(
                f"{name}: presets: expected a mapping of names to keys, such as "
                "`presets: {quick: {generations: 3}}`."
            )
        known |= dict.fromkeys(map(str, presets))
        keys = presets.get(selected) if isinstance(selected, str) else None
        layers += [{key: value for key, value in tree.items() if key not in {"presets", "preset"}}, dict(keys or {})]
    # A dumped configuration names the preset it came from and has no presets itself.
    is_known = isinstance(selected, str) and selected in known
    if not is_known and (known or selected not in [None, *named]):
        advice = f"Known: {', '.join(known)}." if known else "It has no presets; leave the preset out."
        raise ConfigError(f"{name}: preset: {selected!r} is unknown. {advice}")
    return [*layers, {} if selected is None else {"preset": selected}]


def check_overrides(overrides: Mapping[str, Any], known: Sequence[str]) -> None:
    """Check that overrides change `known` arms and make no new one.

    Raises:
        ConfigError: they do not.
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


def select_arms(arms: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    """`arms` in the order of the source, or all that are `known` if none is named.

    Raises:
        ConfigError: one is not known.
    """
    for arm in arms:
        if arm not in known:
            raise ConfigError(f"--arms: there is no arm {arm!r}.{suggest(arm, known)}")
    return [arm for arm in known if arm in arms] if arms else known


def merge_bases(layers: Iterable[Layer]) -> Tree:
    """The base arm, layer upon layer."""
    base: Tree = {}
    for layer in layers:
        base = _merge_arm(base, layer.base)
    return base


def merge_layers(layers: Sequence[Layer], arms: Iterable[str]) -> tuple[Tree, Tree, dict[str, Tree]]:
    """The run's keys, the base arm, and the tree of each of `arms`."""
    run: Tree = {}
    for layer in layers:
        run = merge(run, layer.run)
    base = merge_bases(layers)
    return run, base, {arm: _arm(arm, base, layers) for arm in arms}


def reduce_to(selected: Sequence[str], run: Tree, arms: Mapping[str, Tree]) -> tuple[Tree, dict[str, Tree]]:
    """The run's keys and its `selected` arms, without what serves only other arms: their grid, their external model."""
    selection = {arm: arms[arm] for arm in selected}
    crossed = _crossed_arms(run)
    if crossed & arms.keys() and not crossed & selection.keys():
        run = {key: value for key, value in run.items() if key != "grid"}
    if any(map(_has_external, arms.values())) and not any(map(_has_external, selection.values())):
        selection = {arm: _without_prior(tree) for arm, tree in selection.items()}
    return run, selection


def _crossed_arms(run: Tree) -> Set[str]:
    grid = run.get("grid")
    if isinstance(grid, Mapping) and all(isinstance(levels, list) for levels in grid.values()):
        return combinations(grid).keys()
    return set()


def _has_external(arm: Tree) -> bool:
    data = arm.get("data")
    return isinstance(data, Mapping) and any(data.get(key) is not None for key in ("external_edit", "external_text"))


def _without_prior(arm: Tree) -> Tree:
    data = arm.get("data")
    if not isinstance(data, Mapping):
        return arm
    return {**arm, "data": {key: value for key, value in data.items() if key != "prior"}}


def _nearest(arm: str, known: Sequence[str]) -> str:
    dotted_name = next((name for name in known if name.startswith(f"{arm}.")), None)
    if dotted_name is not None:
        return f" Put a name with a dot in double quotes: --set '{dotted(['arms', dotted_name])}.KEY=VALUE'."
    return f"{suggest(arm, known)} New ones go into a file."


def _arm(arm: str, base: Tree, layers: Sequence[Layer]) -> Tree:
    """The arm's tree, layer upon layer: the keys set for it alone if its learner is not that of `base`."""
    alone: Tree = {}
    tree: Tree = {}
    for layer in layers:
        keys = layer.arms.get(arm, {})
        tree = merge(layer.base, alone) if _is_other_learner(tree, layer.base) else merge(tree, layer.base)
        alone, tree = _merge_arm(alone, keys), merge(tree, keys)
    return alone if _is_other_learner(base, alone) else tree


def _merge_arm(base: Mapping[str, Any], override: Mapping[str, Any]) -> Tree:
    return dict(override) if _is_other_learner(base, override) else merge(base, override)


def _is_other_learner(base: Mapping[str, Any], override: Mapping[str, Any]) -> bool:
    return "learner" in base and "learner" in override and base["learner"] != override["learner"]


# A grid: one arm for each combination of the levels of its axes.
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


def expand_grid(tree: Mapping[str, Any], name: str) -> Tree:
    """`tree` with the arms of its `grid` before its own `arms`, which may override them, and only names in `grid`.

    A grid of names, as in a dumped configuration, stays as it is. `name` stands in the messages.

    Raises:
        ConfigError: the grid does not map axes to levels to keys.
    """
    grid = tree.get("grid")
    if not grid or (isinstance(grid, Mapping) and not any(isinstance(levels, Mapping) for levels in grid.values())):
        return dict(tree)
    _check_grid(grid, name)
    arms: Tree = {}
    for combination in itertools.product(*(levels.items() for levels in grid.values())):
        arm: Tree = {}
        for _, keys in combination:
            arm = merge(arm, keys or {})
        arms[arm_name(level for level, _ in combination)] = arm
    axes = {str(axis): [str(level) for level in levels] for axis, levels in grid.items()}
    return {**tree, "grid": axes, "arms": merge(arms, tree.get("arms") or {})}


def arm_name(levels: Any) -> str:
    """The name of the arm at these levels."""
    return "-".join(map(str, levels))


def combinations(axes: Axes) -> Mapping[str, tuple[str, ...]]:
    """The levels of each arm of a grid, by the arm's name."""
    return {arm_name(levels): levels for levels in itertools.product(*axes.values())}


def _check_grid(grid: Any, name: str) -> None:
    if not isinstance(grid, Mapping) or not all(_is_axis(levels) for levels in grid.values()):
        raise ConfigError(
            f"{name}: grid: expected a mapping of axes to levels to keys, such as "
            "`grid: {loss: {baseline: {}, truncated: {loss: {name: truncated}}}}`."
        )
    combined = [arm_name(levels) for levels in itertools.product(*grid.values())]
    if duplicate := next((arm for arm in combined if combined.count(arm) > 1), None):
        raise ConfigError(f"{name}: grid: two combinations are called {duplicate!r}. Rename a level.")


def _is_axis(levels: Any) -> bool:
    return (
        isinstance(levels, Mapping)
        and bool(levels)
        and all(isinstance(keys or {}, Mapping) for keys in levels.values())
    )
