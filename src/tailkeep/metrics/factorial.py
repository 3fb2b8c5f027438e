"""Which of several remedies add up and which cancel: effects in an experiment that crosses all of them.

Rule: every effect is taken within a seed and only then averaged, so what seeds have in common cancels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailkeep.metrics.intervals import Interval, mean_interval


@dataclass(frozen=True)
class Effect:
    """What changing one factor (or two together) does, against each factor's first level.

    Attributes:
        levels: factor -> the level that it is changed to, of one factor or of two.
        interval: over seeds. Of one factor: the change of the outcome. Of two: how much more both changes do together
            than the sum of what each does alone; 0 if they add up.
    """

    levels: Mapping[str, str]
    interval: Interval


def factorial_effects(
    factors: Mapping[str, Sequence[str]], outcomes: Mapping[tuple[str, ...], ArrayLike], *, level: float = 0.95
) -> list[Effect]:
    """Every main effect and every interaction of two factors, each averaged over all levels of the other factors.

    With y the outcome and a, b levels of two factors whose first levels are 0, the main effect of a is the mean of
    y(a, .) - y(0, .), the interaction of a and b the mean of y(a, b, .) - y(a, 0, .) - y(0, b, .) + y(0, 0, .).

    Args:
        factors: name -> its levels, the first being what the others are compared with.
        outcomes: one level of each factor, in the order of `factors` -> the outcome under each seed, (seeds,).
        level: of the Student-t intervals over seeds.

    Raises:
        ValueError: a factor has fewer than two levels, a combination is missing, or seeds are not the same in number.
    """
    values = _values(factors, outcomes)
    names = list(factors)
    effects = []
    for size in (1, 2):
        for chosen in combinations(range(len(names)), size):
            for changed in product(*(range(1, len(factors[names[place]])) for place in chosen)):
                contrast = values
                # From the last axis on, so that the places of the others stay.
                for axis, to in sorted(zip(chosen, changed, strict=True), reverse=True):
                    contrast = np.take(contrast, [to], axis=axis) - np.take(contrast, [0], axis=axis)
                of_seeds = contrast.reshape(-1, values.shape[-1]).mean(axis=0)
                levels = {names[place]: factors[names[place]][to] for place, to in zip(chosen, changed, strict=True)}
                effects.append(Effect(levels, mean_interval(of_seeds, level=level)))
    return effects


def _values(factors: Mapping[str, Sequence[str]], outcomes: Mapping[tuple[str, ...], ArrayLike]) -> NDArray[np.float64]:
    """(levels of the first factor, ..., seeds)."""
    if few := [name for name, levels in factors.items() if len(levels) < 2]:
        raise ValueError(f"the factor {few[0]!r} has fewer than two levels. Leave it out, or give another level.")
    cells = list(product(*factors.values()))
    if missing := [cell for cell in cells if cell not in outcomes]:
        raise ValueError(f"the combination {' + '.join(missing[0])} is missing. Give an outcome for each.")
    rows = [np.asarray(outcomes[cell], dtype=np.float64).ravel() for cell in cells]
    if len({row.size for row in rows}) != 1:
        raise ValueError("the combinations have different numbers of seeds. Give each the same seeds in one order.")
    return np.stack(rows).reshape(*(len(levels) for levels in factors.values()), -1)
