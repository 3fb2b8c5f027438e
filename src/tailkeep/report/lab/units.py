"""Training units of each arm: whether all arms were trained equally."""

from collections.abc import Mapping
from dataclasses import dataclass

from tailkeep.report.lab.run import ArmGroup
from tailkeep.report.lab.samples import first_middle_last

_EQUAL_WITHIN = 0.01
_MAX_COLUMNS = 8


@dataclass(frozen=True)
class TrainingUnits:
    """Training units (mean over seeds) of each arm at some generations, and the largest spread between arms.

    `spread` is the largest (max / min - 1) of any generation. Whole batches cannot meet a budget exactly, so up to 1 %
    counts as equal.
    """

    generations: tuple[int, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]
    spread: float

    @property
    def equal(self) -> bool:
        """Whether the arms trained equally, to within 1 %."""
        return self.spread <= _EQUAL_WITHIN

    @property
    def verdict(self) -> str:
        """Whether the arms trained equally, as a sentence."""
        if self.spread == 0:
            return "All arms trained equally."
        if self.equal:
            return f"All arms trained equally, to within {self.spread:.1%}.".replace("%", "\u202f%")
        return "The arms did not train equally, which may explain a part of the differences."


def training_units(group: ArmGroup) -> TrainingUnits | None:
    """The units of all arms; None where none was recorded."""
    series = {arm: group.series(arm, "train_units") for arm in group.arms}
    means = {arm: _means(by_seed) for arm, by_seed in series.items() if by_seed}
    if not means:
        return None
    recorded = sorted({generation for row in means.values() for generation in row})
    generations = first_middle_last(recorded, _MAX_COLUMNS)
    rows = tuple((arm, tuple(row.get(g, float("nan")) for g in generations)) for arm, row in means.items())
    values = [[row[g] for row in means.values() if g in row] for g in recorded]
    return TrainingUnits(generations, rows, spread=max(max(at) / max(min(at), 1.0) - 1 for at in values))


def _means(by_seed: Mapping[int, Mapping[int, float]]) -> dict[int, float]:
    generations = sorted({generation for row in by_seed.values() for generation in row})
    values = {g: [row[g] for row in by_seed.values() if g in row] for g in generations}
    return {g: sum(row) / len(row) for g, row in values.items()}
