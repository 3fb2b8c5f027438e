"""Forest plots: differences from a baseline with their CIs, one row each.

Rule: better is always to the right, and a filled marker says that a difference is significant.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from tailkeep.report.phrases import Role
from tailkeep.report.svg import (
    LETTER,
    WIDTH,
    Figure,
    Scale,
    distinct_labels,
    fitted,
    marker,
    path,
    safe,
    text,
    text_width,
)


@dataclass(frozen=True)
class ForestRow:
    """One difference with its CI; `number` and `bounds` are its texts. A filled marker says that it is significant."""

    label: str
    role: Role
    mean: float
    low: float
    high: float
    significant: bool
    number: str
    bounds: str
    size: float = 1.0


@dataclass(frozen=True)
class ForestBlock:
    """Rows on one scale: 0 is the baseline and `goal` the dotted line; without a goal the axis is the metric's own.

    `flipped` says that smaller values are better, so that better is always to the right. `reach` is the largest
    difference on the scale, where blocks share one. A `one_sided` block has no negative values: 0 is at its left.
    `ends` name both ends of its scale.
    """

    title: str
    unit: str
    rows: Sequence[ForestRow]
    goal: float | None = None
    flipped: bool = False
    reach: float = math.nan
    one_sided: bool = False
    ends: tuple[str, str] | None = None


_LEAST, _MOST = -0.75, 1.75
"""How far a scale with a goal reaches beyond 0 and 1."""
_CHARACTER = 8.3
"""Units that a character of a number takes at most, also where a phone enlarges the type."""
_LEGEND_LINE = 19.0


def _number_columns(blocks: Sequence[ForestBlock], *, show_bounds: bool = True) -> tuple[float, float]:
    """The right ends of the column of means and of the plot, so wide that no two texts touch."""
    rows = [row for block in blocks for row in block.rows]
    numbers = max((len(row.number) for row in rows), default=0)
    bounds = max((len(row.bounds) + 2 for row in rows if row.bounds), default=0) if show_bounds else 0
    means_end = WIDTH - (_CHARACTER * bounds + 8 if bounds else 0)
    return means_end, means_end - _CHARACTER * numbers - 22


def forest(
    name: str,
    title: str,
    blocks: Sequence[ForestBlock],
    *,
    note: str,
    finding: str,
) -> Figure:
    """Blocks of a few rows, coloured by arm: the legend stands above, the numbers beside."""
    parts, below = _legend(list({row.label: row for block in blocks for row in block.rows}.values()))
    left = 12.0
    means_end, right = _number_columns(blocks)
    zero, goal = (left + share * (right - left) for share in (0.3, 0.7))
    has_goal = any(block.goal is not None for block in blocks)
    for x, words in ((zero, ("as the", "baseline")), *(((goal, ("as at", "generation 0")),) if has_goal else ())):
        parts += [text(x, below + 26 + 15 * n, word, "axis", "middle") for n, word in enumerate(words)]
    parts.append(text(WIDTH, below + 41, _heading(blocks), "axis", "end"))
    y = below + 71
    for number, block in enumerate(blocks):
        if number:
            parts.append(path([(0, y - 17), (WIDTH, y - 17)], "grid"))
        parts.append(text(0, y, block.title, "row"))
        parts.append(text(WIDTH, y, block.unit, "axis", "end"))
        bottom = y + 6 + 21 * len(block.rows)
        parts.append(path([(zero, y + 6), (zero, bottom)], "zero"))
        if block.goal is not None:
            parts.append(path([(goal, y + 6), (goal, bottom)], "goal"))
        scale = _difference_scale(block, zero, goal, left, right)
        for index, row in enumerate(block.rows):
            middle = y + 16.5 + 21 * index
            parts.append(_whisker(row, scale, middle, left, right))
            parts.append(_numbers(row, middle, means_end, show_bounds=True))
        y = bottom + 25
    parts.append(_sides(zero, y - 12))
    return Figure(name, title, note, finding, y - 6, "".join(parts))


def _legend(rows: Sequence[ForestRow]) -> tuple[list[str], float]:
    """The markers with their whole names, and the baseline of the last line: a legend that is cut names nobody."""
    parts: list[str] = []
    at, y = 0.0, 14.0
    for row in rows:
        first, *rest = wrap(safe(row.label), int((WIDTH - 15) / LETTER)) or [""]
        if at and at + 15 + LETTER * len(first) > WIDTH:
            at, y = 0.0, y + _LEGEND_LINE
        parts.append(marker(row.role, at + 5, y - 5, size=row.size) + text(at + 15, y, first, f"lab {row.role.css}"))
        for words in rest:
            y += _LEGEND_LINE
            parts.append(text(at + 15, y, words, f"lab {row.role.css}"))
        at += 15 + LETTER * len(rest[-1] if rest else first) + 18
    return parts, y


def _heading(blocks: Sequence[ForestBlock]) -> str:
    has_bounds = any(row.bounds for block in blocks for row in block.rows)
    return "difference (95 % CI)" if has_bounds else "difference"


def _numbers(row: ForestRow, middle: float, means_end: float, *, show_bounds: bool) -> str:
    kind = f"num{' sig' if row.significant else ''} {row.role.css}"
    parts = [text(means_end, middle + 4.5, row.number, kind, "end")]
    if show_bounds and row.bounds:
        parts.append(text(WIDTH, middle + 4.5, f"({row.bounds})", "cin", "end"))
    return "".join(parts)


def forest_rows(
    name: str,
    title: str,
    blocks: Sequence[ForestBlock],
    *,
    note: str,
    finding: str,
    longest: int = 18,
    show_bounds: bool = True,
    directed: bool = True,
    heading: str = "",
) -> Figure:
    """Blocks of many rows, each named at its left."""
    room = _CHARACTER * longest
    rows = [row for block in blocks for row in block.rows]
    keys = list(dict.fromkeys((row.label, row.significant) for row in rows))
    lengths = [len(fitted(words, room, bold=bold)) for words, bold in keys]
    labels = dict(zip(keys, distinct_labels([words for words, _ in keys], lengths), strict=True))
    left = max((text_width(words, bold=bold) for (_, bold), words in labels.items()), default=0.0) + 14
    means_end, right = _number_columns(blocks, show_bounds=show_bounds)
    parts = [text(WIDTH, 14, heading or _heading(blocks), "axis", "end")]
    y = 34.0
    row_height = 18.0
    baseline, goal = _scaled_places(blocks, left, right)
    for block in blocks:
        parts.append(text(0, y, block.title, "row"))
        parts.append(text(WIDTH, y, block.unit, "axis", "end"))
        zero = left if block.one_sided else (left + right) / 2 if block.goal is None else baseline
        bottom = y + 6 + row_height * len(block.rows)
        parts.append(path([(zero, y + 6), (zero, bottom)], "zero"))
        if block.goal is not None:
            parts.append(path([(goal, y + 6), (goal, bottom)], "goal"))
        scale = _difference_scale(block, zero, goal, left, right)
        for index, row in enumerate(block.rows):
            middle = y + 15 + row_height * index
            kind = f"num{' sig' if row.significant else ''} {row.role.css}"
            parts.append(text(0, middle + 4.5, labels[row.label, row.significant], kind))
            parts.append(_whisker(row, scale, middle, left, right))
            parts.append(_numbers(row, middle, means_end, show_bounds=show_bounds))
        if block.ends:
            parts += [
                text(x, bottom + 15, word, "tick", "middle") for x, word in zip((zero, right), block.ends, strict=True)
            ]
            bottom += 14
        y = bottom + 26
    if directed:
        parts.append(_sides(zero, y - 12))
    return Figure(name, title, note, finding, y - 6, "".join(parts))


def _scaled_places(blocks: Sequence[ForestBlock], left: float, right: float) -> tuple[float, float]:
    """Where the baseline and generation 0 stand, so that the differences use the whole width.

    They are never less than 0.4 of it apart; a CI that goes further on has an arrow.
    """
    reached = [0.0, 1.0]
    for block in blocks:
        if block.goal:
            reached += [value / block.goal for row in block.rows for value in (row.low, row.high, row.mean)]
    finite = [value for value in reached if math.isfinite(value)]
    low, high = max(_LEAST, min(finite)), min(_MOST, max(finite))
    # A marker at the edge keeps its whole width.
    inner_left, inner_right = left + 6, right - 6
    rate = (inner_right - inner_left) / (high - low)
    return inner_left - low * rate, inner_left + (1 - low) * rate


def _sides(zero: float, y: float) -> str:
    """Which side of 0 is worse and which is better."""
    return text(zero - 7, y, "← worse", "axis", "end") + text(zero + 7, y, "better →", "axis")


def _difference_scale(block: ForestBlock, zero: float, goal: float, left: float, right: float) -> Scale:
    """The place of a difference; beyond `left` and `right` it lies outside."""
    if block.goal is not None:
        return lambda value: zero + (goal - zero) * value / block.goal if block.goal else zero
    bounds = [b for row in block.rows for b in (row.low, row.high, row.mean) if math.isfinite(b)]
    bounds = [-block.reach, block.reach] if math.isfinite(block.reach) else bounds
    if block.one_sided:
        return lambda value: zero + (right - zero) * value / max(bounds)
    sign = -1 if block.flipped else 1
    negative = max([0.0, *(-sign * b for b in bounds)])
    positive = max([0.0, *(sign * b for b in bounds)])
    rates = [(zero - left) / negative if negative else math.inf, (right - zero) / positive if positive else math.inf]
    rate = min(rates) if math.isfinite(min(rates)) else 0.0
    return lambda value: zero + sign * value * rate


def _whisker(row: ForestRow, scale: Scale, y: float, left: float, right: float) -> str:
    """The bar of the CI, with an arrow where it goes on, and the marker."""
    parts = []
    if math.isfinite(row.low) and math.isfinite(row.high):
        low, high = sorted((scale(row.low), scale(row.high)))
        inner = (min(max(low, left), right), min(max(high, left), right))
        if inner[1] > inner[0]:
            parts.append(path([(inner[0], y), (inner[1], y)], f"whisk {row.role.css}"))
        if low < left - 0.5:
            parts.append(f'<path class="arrow {row.role.css}" d="M{left - 7:.1f} {y:.1f}l8 -4.5v9z"/>')
        if high > right + 0.5:
            parts.append(f'<path class="arrow {row.role.css}" d="M{right + 7:.1f} {y:.1f}l-8 -4.5v9z"/>')
    if math.isfinite(row.mean) and left - 3 <= scale(row.mean) <= right + 3:
        parts.append(marker(row.role, scale(row.mean), y, size=row.size, filled=row.significant))
    return "".join(parts)
