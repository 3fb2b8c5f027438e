"""Arms compared seed by seed.

Rule: both are read at the last generation that both have finished under all the seeds that both have, and a value that
is not finite there makes the difference one too.
"""

import math
from collections.abc import Iterable, Mapping
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


def differences(group: Group, arm: str, metrics: Iterable[str]) -> list[Difference]:
    """By how much `arm` lies above what it is compared with; nothing where the two have no generation in common."""
    base = group.base_of(arm)
    ours, theirs = _cells(group, arm), _cells(group, base)
    seeds = sorted(ours.keys() & theirs.keys())
    shared = set.intersection(*(set(ours[seed].keys() & theirs[seed].keys()) for seed in seeds)) if seeds else set()
    generations = sorted(shared)

    def one(metric: str) -> Difference:
        rows = [[_value(ours, s, g, metric) - _value(theirs, s, g, metric) for g in generations] for s in seeds]
        level = mean_interval([row[-1] for row in rows])
        slopes = mean_interval([slope(generations, row) for row in rows])
        return Difference(arm, base, metric, len(seeds), generations[-1], level, slopes)

    return [one(metric) for metric in metrics] if generations else []


def measured_difference(group: Group, arm: str, metric: str) -> Difference | None:
    """The difference in `metric`; None where one of the two never has it, or they have no generation in common."""
    have = {entry.arm for entry in group.entries if metric in entry.metrics}
    return next(iter(differences(group, arm, [metric])), None) if {arm, group.base_of(arm)} <= have else None


def _cells(group: Group, arm: str) -> Cells:
    found: dict[int, dict[int, Mapping[str, float]]] = {}
    for entry in group.of(arm):
        found.setdefault(entry.seed, {})[entry.generation] = entry.metrics
    return found


def _value(cells: Cells, seed: int, generation: int, metric: str) -> float:
    return cells[seed][generation].get(metric, math.nan)
