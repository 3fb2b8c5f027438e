"""Arms by the crossing of choices: one arm for each combination of the levels of a grid's axes.

    grid:
      decoder:
        greedy: {writing: {decoder: {name: greedy}}}
        sample: {writing: {decoder: {name: sample}}}
      loss:
        plain: {}
        truncated: {loss: {name: truncated, threshold: 0.99}}

gives the arms greedy-plain, greedy-truncated, sample-plain and sample-truncated. Rule: the last axis is the one whose
levels a report compares, its first level what the others are compared with; the other axes are the circumstances.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from tailkeep.config import Tree, merge
from tailkeep.errors import ConfigError

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
            "`grid: {loss: {plain: {}, truncated: {loss: {name: truncated}}}}`."
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
