"""Arms against their baselines: forests of paired differences, over a grid a map too, the verdict and its numbers.

Rule: a difference is paired over seeds at the last common generation. Significant means at 95 % after correction for
the number of arms; a filled marker or a bold number says it, never a colour.
"""

import math
from collections.abc import Mapping, Sequence

from tailkeep.report import formatting
from tailkeep.report.forest import ForestBlock, ForestRow, forest, forest_rows
from tailkeep.report.lab.curves import marker_sizes
from tailkeep.report.lab.grid import EffectMap, cell_text, effect_maps, grid_numbers, grid_verdict
from tailkeep.report.lab.paired_differences import Difference
from tailkeep.report.lab.run import ArmGroup
from tailkeep.report.lab.stats import GroupSummary
from tailkeep.report.lab.verdict import ONE_SEED, baseline_change, key_numbers, write_verdict
from tailkeep.report.page_kit import KeyNumber
from tailkeep.report.svg import Figure, distinct_labels, rect, text

_FEW_ARMS, _MAX_BLOCKS = 4, 6
_SCALED = (
    "Each metric is scaled so that 0 is the baseline and the dotted line its value at generation 0; the numbers are "
    "unscaled."
)


def plot_forest(group: ArmGroup, summary: GroupSummary, name: str) -> Figure | None:
    """The differences of the compared arms: a block per metric, or for many arms the main metrics and a row per arm."""
    mains = group.catalog.main_metrics(group.names)
    metrics = list(dict.fromkeys([*mains, *summary.metrics]))
    finite = [one for one in summary.differences if math.isfinite(one.final.mean)]
    metrics = [metric for metric in metrics if any(one.metric == metric for one in finite)]
    if not metrics:
        return None
    few = len(group.compared_arms) <= _FEW_ARMS
    candidates = metrics if few else [metric for metric in metrics if metric in mains]
    rows = {metric: [one for one in finite if one.metric == metric] for metric in candidates}
    blocks = {metric: _block(group, metric, of_metric, sort=not few) for metric, of_metric in rows.items()}
    # Without a better direction and a change to undo, neither side of 0 is better.
    shown = [m for m in candidates if group.catalog.describe(m).better or blocks[m].goal is not None][:_MAX_BLOCKS]
    if not shown:
        return None
    blocks_shown = [blocks[metric] for metric in shown]
    title = f"Difference from {group.arms[0]} at generation {summary.common_generation}"
    draw = forest if few else forest_rows
    note, finding = _note(finite, blocks_shown), _finding(group, title, finite, shown)
    return draw(name, title, blocks_shown, note=note, finding=finding)


def _block(group: ArmGroup, metric: str, rows: Sequence[Difference], *, sort: bool) -> ForestBlock:
    change = baseline_change(group, group.arms[0], metric)
    # What a baseline that gets better gains is nothing to undo.
    undone = change if change and change.is_significant and change.is_worse and change.change.mean else None
    goal = None if undone is None else -undone.change.mean
    sizes = marker_sizes(group.arms, group.roles)
    known = group.catalog.describe(metric)
    flipped = known.better == "lower" if known.better or goal is None else goal < 0
    if sort:
        rows = sorted(rows, key=lambda one: one.final.mean, reverse=not flipped)
    return ForestBlock(
        title=known.title,
        unit=known.unit,
        rows=[_row(group, one, one.arm, 1.0 if sort else sizes[one.arm]) for one in rows],
        goal=goal,
        flipped=flipped,
    )


def _row(group: ArmGroup, one: Difference, words: str, size: float = 1.0) -> ForestRow:
    return ForestRow(
        label=words,
        role=group.roles[one.arm],
        mean=one.final.mean,
        low=one.final.low,
        high=one.final.high,
        significant=one.is_significant,
        number=formatting.mean(one.final, signed=True),
        bounds=formatting.interval(one.final, signed=True),
        size=size,
    )


def _note(rows: Sequence[Difference], blocks: Sequence[ForestBlock]) -> str:
    seeds = max(one.seeds for one in rows)
    if seeds < 2:
        lead = "One seed: no CI, so no difference can be called significant."
        return f"{lead} Each metric is scaled to its largest difference."
    arms = max(one.comparisons for one in rows)
    corrected = f" after Holm’s correction for {arms} arms" if arms > 1 else ""
    scaled = _SCALED if any(block.goal is not None for block in blocks) else ""
    unscaled = any(block.goal is None for block in blocks) and scaled
    separate = (
        "A metric without a dotted line changes too little in the baseline; it has a scale of its own."
        if unscaled
        else ""
    )
    lead = f"Paired over {seeds} seeds; bar: 95 % CI (Student t); filled marker: significant{corrected}."
    return " ".join(filter(None, [lead, scaled, separate]))


def _finding(group: ArmGroup, title: str, rows: Sequence[Difference], metrics: Sequence[str]) -> str:
    significant = [one for one in rows if one.is_significant and one.metric in metrics]
    listed = [
        f"{one.arm}, {group.catalog.describe(one.metric).title}: {formatting.mean(one.final, signed=True)}"
        for one in significant
    ]
    if not any(math.isfinite(one.p_value) for one in rows):
        return f"{title}, paired by seed. {ONE_SEED}"
    return f"{title}, paired by seed. Significant: {'; '.join(listed) or 'nothing'}."


def plot_grid_forest(group: ArmGroup, effects: EffectMap, name: str) -> Figure:
    """One row per setting and level, by level and the first axis, sorted by effect."""
    flipped = effects.definition.better == "lower"
    blocks = []
    several = len({row.partition(" · ")[0] for row in effects.rows}) > 1 and " · " in effects.rows[0]
    for column, level in enumerate(effects.columns):
        of_level = [cell for cell in effects.cells if cell.column == column]
        groups = dict.fromkeys(effects.rows[cell.row].partition(" · ")[0] if several else "" for cell in of_level)
        for first in groups:
            cells = [cell for cell in of_level if not several or effects.rows[cell.row].partition(" · ")[0] == first]
            cells.sort(key=lambda cell: cell.difference.final.mean, reverse=not flipped)
            settings = [effects.rows[cell.row] for cell in cells]
            words = [setting.partition(" · ")[2] if several else setting for setting in settings]
            rows = [_row(group, cell.difference, one) for cell, one in zip(cells, words, strict=True)]
            title = f"{level}, {first}" if several else level
            blocks.append(ForestBlock(title, effects.definition.unit, rows, None, flipped))
    blocks = _on_one_scale(blocks)
    metric = effects.definition.title
    total, arms = len(effects.cells), effects.comparisons
    count = sum(cell.difference.is_significant for cell in effects.cells)
    significant = f"{count} of {total} differences are significant." if effects.is_tested else ONE_SEED
    seeds = max(cell.difference.seeds for cell in effects.cells)
    note = (
        f"{metric} minus that of {effects.reference} in the same setting, paired over {formatting.seeds(seeds)} "
        f"at generation {effects.cells[0].difference.generation}. Bar: 95 % CI; filled marker, bold: significant"
        + (f" after Holm’s correction for {arms} comparisons." if arms > 1 else ".")
    )
    if seeds < 2:
        note = note.partition(" Bar:")[0] + " One seed: no CI."
    return forest_rows(
        name, f"{metric}: difference from {effects.reference}", blocks, note=note,
        finding=f"{metric} minus that of {effects.reference}. {significant}",
        longest=31, show_bounds=False, heading="difference",
    )  # fmt: skip


def _on_one_scale(blocks: Sequence[ForestBlock]) -> list[ForestBlock]:
    """All blocks on one scale, which holds every mean and most bounds: a few are huge."""
    bounds = sorted(
        abs(bound)
        for block in blocks
        for row in block.rows
        for bound in (row.low, row.high, row.mean)
        if math.isfinite(bound)
    )
    if not bounds:
        return list(blocks)
    means = [abs(row.mean) for block in blocks for row in block.rows if math.isfinite(row.mean)]
    limit = max(bounds[min(len(bounds) - 1, round(0.8 * len(bounds)))], 1.1 * max(means, default=0.0)) or 1.0
    return [ForestBlock(block.title, block.unit, block.rows, None, block.flipped, limit) for block in blocks]


_CELL_WIDTH, _CELL_HEIGHT, _MAX_COLUMNS = 80.0, 20.0, 4


def plot_effect_map(effects: EffectMap, name: str) -> Figure:
    """The map as a table of coloured cells: the larger the difference, the darker its cell.

    Settings are rows and levels columns, or the other way round where there are more levels than settings.
    """
    turned = len(effects.columns) > max(len(effects.rows), _MAX_COLUMNS)
    rows, columns = (effects.columns, effects.rows) if turned else (effects.rows, effects.columns)
    start = 250.0
    width = start + _CELL_WIDTH * len(columns)
    tops, sides = (distinct_labels(names, [longest] * len(names)) for names, longest in ((columns, 9), (rows, 30)))
    parts = [text(start + _CELL_WIDTH * (n + 0.5), 14, words, "axis", "middle") for n, words in enumerate(tops)]
    parts += [text(0, 38 + _CELL_HEIGHT * n, words, "num") for n, words in enumerate(sides)]
    sizes = [abs(cell.difference.final.mean) for cell in effects.cells]
    largest = max(sizes) or 1.0
    for cell in effects.cells:
        row, column = (cell.column, cell.row) if turned else (cell.row, cell.column)
        x, y = start + _CELL_WIDTH * column, 24 + _CELL_HEIGHT * row
        share = abs(cell.difference.final.mean) / largest
        kind = "better" if cell.better else "worse"
        box = rect(x + 1, y + 1, _CELL_WIDTH - 2, _CELL_HEIGHT - 2, kind)
        parts.append(box.replace("<rect ", f'<rect fill-opacity="{0.04 + 0.5 * share:.2f}" '))
        number = formatting.mean(cell.difference.final, signed=True)
        weight = "row" if cell.difference.is_significant else "num"
        parts.append(text(x + _CELL_WIDTH / 2, y + 14.5, number, weight, "middle"))
    metric = effects.definition.title
    changes = "; ".join(cell_text(effects, cell) for cell in effects.cells)
    note = (
        f"{metric} minus that of {effects.reference} in the same setting. Blue: better; orange: worse; the darker, the "
        "larger. Bold: significant."
    )
    height = 30 + _CELL_HEIGHT * len(rows)
    return Figure(
        name, f"{metric}, setting by setting", note, f"{metric}. {changes}.", height, "".join(parts), max(width, 480)
    )


def verdict_of(group: ArmGroup, summary: GroupSummary, grid: Mapping[str, Sequence[str]]) -> str:
    """The verdict of a run: counts over the settings of a grid, or what each arm makes of the baseline's change."""
    maps = effect_maps(group, summary, grid)
    return grid_verdict(maps) if _has_settings(maps) else write_verdict(group, summary)


def numbers_of(group: ArmGroup, summary: GroupSummary, maps: Sequence[EffectMap]) -> tuple[KeyNumber, ...]:
    """The key numbers of a run: counts over the settings of a grid, or the baseline's change and differences."""
    return grid_numbers(group, maps) if _has_settings(maps) else key_numbers(group, summary)


def _has_settings(maps: Sequence[EffectMap]) -> bool:
    """Whether there is something to count over: of a single setting its arms are named."""
    return bool(maps) and len(maps[0].rows) > 1
