"""Arms compared seed by seed.

Rule: both are read at the last generation that both have finished under all the seeds that both have, and a value that
is not finite there makes the difference one too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tailkeep.metrics import Interval, mean_interval, slope
from tailkeep.report.reading import Group

Cells = Mapping[int, Mapping[int, Mapping[str, float]]]


@dataclass(frozen=True)
class Difference:
    """`arm` less `base`, seed by seed: 95 % Student-t intervals over the `seeds` that both have.

    `level` is at `generation`, `slope` per generation up to it.
    """

    arm: str
    base: str
    metric: str
    seeds: int
    generation: int
    level: Interval
    slope: Interval

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.level.low > 0 or self.level.high < 0


def difference(group: Group, arm: str, metric: str) -> Difference | None:
    """By how much `arm` lies above what it is compared with; None where the two have no generation in common."""
    base = group.base_of(arm)
    ours, theirs = _cells(group, arm), _cells(group, base)
    seeds = sorted(ours.keys() & theirs.keys())
    shared = set.intersection(*(set(ours[seed].keys() & theirs[seed].keys()) for seed in seeds)) if seeds else set()
    if not shared:
        return None
    generations = sorted(shared)
    rows = [[_value(ours, seed, g, metric) - _value(theirs, seed, g, metric) for g in generations] for seed in seeds]
    level = mean_interval([row[-1] for row in rows])
    slopes = mean_interval([slope(generations, row) for row in rows])
    return Difference(arm, base, metric, len(seeds), generations[-1], level, slopes)


def measured_difference(group: Group, arm: str, metric: str) -> Difference | None:
    """The same, and None where one of the two never has the metric."""
    have = {entry.arm for entry in group.entries if metric in entry.metrics}
    return difference(group, arm, metric) if {arm, group.base_of(arm)} <= have else None


def _cells(group: Group, arm: str) -> Cells:
    found: dict[int, dict[int, Mapping[str, float]]] = {}
    for entry in group.of(arm):
        found.setdefault(entry.seed, {})[entry.generation] = entry.metrics
    return found


def _value(cells: Cells, seed: int, generation: int, metric: str) -> float:
    return cells[seed][generation].get(metric, math.nan)
