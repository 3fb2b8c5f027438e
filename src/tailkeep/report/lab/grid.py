"""The levels of a grid's last axis, compared with the first one in every setting of the other axes, in words.

Rule: a difference is paired over seeds within its setting. Significant means at 95 % after correction for the number
of levels and settings; with one seed nothing is tested, and it says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailkeep.metrics import holm_correction
from tailkeep.report import formatting
from tailkeep.report.lab.paired_differences import ALPHA, Difference
from tailkeep.report.lab.run import ArmGroup, settings_of
from tailkeep.report.lab.sentences import join
from tailkeep.report.lab.stats import GroupSummary
from tailkeep.report.lab.verdict import ONE_SEED, baseline_change, certainty, is_better
from tailkeep.report.page_kit import KeyNumber
from tailkeep.runs.metric import Metric

_MAX_METRICS, _MAX_LISTED, _MAX_LEVELS = 2, 6, 3


@dataclass(frozen=True)
class EffectCell:
    """The difference of the level `column` from the reference level in the setting `row`; `better` is its direction."""

    row: int
    column: int
    difference: Difference
    better: bool


@dataclass(frozen=True)
class EffectMap:
    """The differences in one metric: `rows` are settings, `columns` the levels compared with the level `reference`."""

    metric: str
    definition: Metric
    reference: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[EffectCell, ...]

    @property
    def is_tested(self) -> bool:
        """Whether any difference has a p-value; none has with one seed."""
        return any(math.isfinite(cell.difference.p_value) for cell in self.cells)

    @property
    def comparisons(self) -> int:
        """How many differences the correction counts."""
        return max(cell.difference.comparisons for cell in self.cells)

    def measured(self, column: int) -> int:
        """In how many settings the level `column` is measured."""
        return sum(cell.column == column for cell in self.cells)

    def significant(self, column: int, *, better: bool) -> list[EffectCell]:
        """The cells of `column` that differ significantly in one direction."""
        return [
            cell
            for cell in self.cells
            if cell.column == column and cell.better is better and cell.difference.is_significant
        ]


def effect_map(summary: GroupSummary, grid: Mapping[str, Sequence[str]], metric: str) -> EffectMap | None:
    """The map of `metric` over a grid of at least two axes; None where no two arms of a row have it.

    Settings and levels without any difference are left out: their arms were not selected, or are not finished.
    """
    definition = summary.catalog.describe(metric)
    if len(grid) < 2 or definition.better is None:
        return None
    reference, *levels = list(grid.values())[-1]
    by_arm = {one.arm: one for one in summary.differences if one.metric == metric and math.isfinite(one.final.mean)}
    measured = {
        (setting, level): by_arm[arms[level]]
        for setting, arms in settings_of(grid).items()
        for level in levels
        if arms[level] in by_arm
    }
    rows = tuple(dict.fromkeys(setting for setting, _ in measured))
    columns = tuple(level for level in levels if any(level == other for _, other in measured))
    cells = [
        EffectCell(rows.index(setting), columns.index(level), one, is_better(one, definition.better) is True)
        for (setting, level), one in measured.items()
    ]
    return EffectMap(metric, definition, reference, rows, columns, tuple(cells)) if cells else None


def effect_maps(group: ArmGroup, summary: GroupSummary, grid: Mapping[str, Sequence[str]]) -> tuple[EffectMap, ...]:
    """The maps of the main metrics, or else of the first ones with a better direction; empty without a grid."""
    catalog = group.catalog
    directed = [name for name in catalog.headline_names(group.names) if catalog.describe(name).better]
    names = list(dict.fromkeys([*catalog.main_metrics(group.names), *directed]))
    maps = (effect_map(summary, grid, name) for name in names)
    return tuple(one for one in maps if one is not None)[:_MAX_METRICS]


def grid_verdict(maps: Sequence[EffectMap]) -> str:
    """In how many settings each level helps, by the first metric; of many levels the three that differ most often."""
    first = maps[0]
    counts = {
        level: tuple(len(first.significant(column, better=direction)) for direction in (True, False))
        for column, level in enumerate(first.columns)
    }
    lead = f"{first.definition.title} in {len(first.rows)} settings"
    if not first.is_tested:
        return f"{lead}: {_in_sentence(ONE_SEED)}"
    listed = (
        sorted(counts, key=lambda level: -sum(counts[level]))[:_MAX_LEVELS] if len(counts) > _MAX_LEVELS else counts
    )
    if not any(map(sum, counts.values())):
        names = list(counts) if len(counts) <= _MAX_LEVELS else []
        levels = join(names) if names else f"the {len(counts)} levels"
        verb = "does" if len(names) == 1 else "do"
        return f"{lead}: {levels} {verb} not differ significantly from {first.reference} in any."
    parts: list[str] = []
    for level in listed:
        better, worse = counts[level]
        words = f"{level} is significantly better in {better}" if not parts else f"{level} in {better}"
        if (measured := first.measured(first.columns.index(level))) < len(first.rows):
            words += f" of {measured}"
        parts.append(f"{words} and worse in {worse}" if worse else words)
    if others := [sum(count) for level, count in counts.items() if level not in listed]:
        most = max(others)
        parts.append(f"{formatting.counted(len(others), 'other')} in {f'at most {most}' if most else '0'}")
    return f"{lead}: {', '.join(parts)}."


def _in_sentence(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


def grid_numbers(group: ArmGroup, maps: Sequence[EffectMap]) -> tuple[KeyNumber, ...]:
    """In how many settings the baseline gets worse, the largest difference, and how often the first level helps.

    With one seed the largest difference alone: the other two count tests.
    """
    first = maps[0]
    title = first.definition.title
    changes = [baseline_change(group, arm, first.metric) for arm in dict.fromkeys(map(group.baseline_of, group.arms))]
    known = [change for change in changes if change and math.isfinite(change.p_value)]
    corrected = holm_correction([change.p_value for change in known])
    worse = sum(change.is_worse and p < ALPHA for change, p in zip(known, corrected, strict=True))
    numbers = []
    if known:
        words = f"settings in which {title} of {first.reference} gets significantly worse by generation "
        numbers.append(
            KeyNumber(
                group.roles[group.arms[0]],
                f"{worse} of {len(known)}",
                "",
                f"{words}{group.common_generation}",
                _corrected_for(len(known), "setting"),
            )
        )
    cells = [cell for effects in maps for cell in effects.cells]
    largest = max(cells, key=lambda cell: (cell.difference.is_significant, abs(cell.difference.final.mean)))
    one = largest.difference
    effects = next(effects for effects in maps if largest in effects.cells)
    words = (
        f"{effects.definition.title} at generation {one.generation}, {effects.columns[largest.column]} − "
        f"{effects.reference}, {effects.rows[largest.row]}"
    )
    number = formatting.mean(one.final, signed=True)
    numbers.append(KeyNumber(group.roles[one.arm], number, effects.definition.unit, words, certainty(one)))
    if not first.is_tested:
        return tuple(numbers)
    cell = first.cells[0]
    rows = first.measured(cell.column)
    better = len(first.significant(cell.column, better=True))
    words = f"settings in which {first.columns[cell.column]} has a significantly better {title} than {first.reference}"
    certain = _corrected_for(first.comparisons, "comparison")
    numbers.append(KeyNumber(group.roles[cell.difference.arm], f"{better} of {rows}", "", words, certain))
    return tuple(numbers)


def _corrected_for(number: int, noun: str) -> str:
    return f"95 %, corrected for {number} {noun}s" if number > 1 else "95 %"


def effect_sentences(group: ArmGroup, summary: GroupSummary, grid: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A sentence for the map of each of the first comparable metrics; empty without a grid of two axes."""
    return tuple(_effect_sentence(effects) for effects in effect_maps(group, summary, grid))


def _effect_sentence(effects: EffectMap) -> str:
    total, comparisons = len(effects.cells), effects.comparisons
    significant = [cell for cell in effects.cells if cell.difference.is_significant]
    significant.sort(key=lambda cell: -abs(cell.difference.final.mean))
    lead = f"{effects.definition.title}, each level minus {effects.reference} in the same setting, paired by seed"
    corrected = f"corrected for {comparisons} comparisons" if comparisons > 1 else ""
    if not effects.is_tested:
        return f"{lead}: {_in_sentence(ONE_SEED)}"
    if not significant:
        return f"{lead}: no significant difference ({', '.join(filter(None, [f'0 of {total}', corrected]))})."
    parts = []
    for word, better in (("better", True), ("worse", False)):
        if cells := [cell for cell in significant if cell.better is better]:
            listed = ", ".join(cell_text(effects, cell) for cell in cells[:_MAX_LISTED])
            more = f" and {len(cells) - _MAX_LISTED} more" if len(cells) > _MAX_LISTED else ""
            parts.append(f"significantly {word} in {len(cells)} of {total}: {listed}{more}")
    others = {0: "", 1: "the other one is not significant"}.get(
        total - len(significant), "the others are not significant"
    )
    more = ", ".join(filter(None, [others, corrected]))
    return f"{lead}, is {'; '.join(parts)}." + (f" {more[0].upper()}{more[1:]}." if more else "")


def cell_text(effects: EffectMap, cell: EffectCell) -> str:
    """The level and the setting of `cell` with its difference."""
    change = formatting.mean(cell.difference.final, signed=True)
    return f"{effects.columns[cell.column]} with {effects.rows[cell.row]} ({change})"
