"""Distributions by arm and generation: confidence on logit bins, fitted densities, samples in the plane.

Rule: a table of an unexpected shape is skipped; the rest of the report does not depend on it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailkeep.report import formatting
from tailkeep.report.charts import step_chart
from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.lab.samples import first_middle_last
from tailkeep.report.svg import (
    WIDTH,
    Figure,
    Scale,
    label,
    linear,
    log_ticks,
    logarithmic,
    nice_domain,
    path,
    text,
    tick_texts,
    ticks,
)

_MAX_POINTS = 300
_CEILING = 2.5
_TICKS = (0.01, 0.5, 0.99, 0.9999)
_LIMIT = 0.99
_START, _TOP = 44.0, 34.0


@dataclass(frozen=True)
class TableColumns:
    """Equally long columns of one table, at one generation."""

    generation: int
    values: Mapping[str, Sequence[float]]


Ends = Mapping[str, tuple[TableColumns, TableColumns]]
"""By arm the first and the last generation."""


def plot_confidence(group: ArmGroup, arms: Sequence[str], name: str, *, held_out: bool = False) -> Figure | None:
    """How probable the tokens of samples (or of held-out text) are under the model: first and last generation."""
    column = "real" if held_out else "common"
    ends = _first_and_last(group, arms, "confidence", column, "logit_edges")
    if not ends:
        return None
    limit = math.log(_LIMIT / (1 - _LIMIT))
    stack = _stacked_histograms(
        group,
        ends,
        linear,
        "% of tokens",
        lambda row: (f"p > {_LIMIT}", formatting.percent(_share_above(row.values, limit))),
    )
    parts = [path([(stack.x(limit), _TOP - 12), (stack.x(limit), stack.bottom)], "ref"), *stack.parts]
    parts += [text(stack.x(math.log(p / (1 - p))), stack.bottom + 18, f"{p:g}", "tick", "middle") for p in _TICKS]
    parts.append(stack.x_label("probability of the token (logit scale)"))
    what = "held-out text" if held_out else "its own samples"
    title = f"How confident the model is of {what}"
    note = (
        f"Probability that the model gives to each token of {what}, {_seeds(group, ends)}. "
        f"Grey: generation {stack.first}; line: the last one. Dotted: p = {_LIMIT}."
    )
    finding = f"{title}. Share of tokens with p > {_LIMIT}, first to last generation: {'; '.join(stack.findings)}."
    return Figure(name, title, note, finding, stack.bottom + 46, "".join(parts))


def plot_first_model(group: ArmGroup, arms: Sequence[str], name: str) -> Figure | None:
    """The perplexity of samples under the model of generation 0, as in Shumailov et al. 2024, figure 1."""
    ends = _first_and_last(group, arms, "first_model", "counts", "edges")
    if not ends:
        return None
    ends = _without_empty_ends(ends)
    stack = _stacked_histograms(group, ends, logarithmic, "% of samples", lambda row: ("median", _median(row.values)))
    edges = next(iter(ends.values()))[0].values["edges"]
    values = log_ticks(edges[0], edges[-1])
    parts = [*stack.parts, *(text(stack.x(v), stack.bottom + 18, f"{v:,.0f}", "tick", "middle") for v in values)]
    parts.append(stack.x_label("perplexity of the sample (log scale)"))
    title = "How likely the first model finds the samples"
    note = (
        f"Perplexity of each sample under the model of generation 0, {_seeds(group, ends)}. "
        f"Grey: generation {stack.first}; line: the last one. The first and last bins take what lies beyond."
    )
    finding = f"{title}. Median perplexity, first to last generation: {'; '.join(stack.findings)}."
    return Figure(name, title, note, finding, stack.bottom + 46, "".join(parts))


@dataclass(frozen=True)
class HistogramStack:
    """Histograms of arms below each other on one horizontal scale `x`; `first` is the generation in grey."""

    parts: Sequence[str]
    x: Scale
    bottom: float
    first: int
    findings: Sequence[str]

    def x_label(self, words: str) -> str:
        """The label below the horizontal axis."""
        return text((_START + WIDTH) / 2, self.bottom + 38, words, "axis", "middle")


def _stacked_histograms(
    group: ArmGroup,
    ends: Ends,
    scale: Callable[[tuple[float, float], tuple[float, float]], Scale],
    unit: str,
    summary_of: Callable[[TableColumns], tuple[str, str]],
) -> HistogramStack:
    """The last generation of each arm as a line before its first in grey, with a number of both."""
    place, anchor = (WIDTH - 4, "end") if _is_emptier_at_the_right(ends) else (_START + 10, "start")
    edges = next(iter(ends.values()))[0].values["edges"]
    tallest = max(max(_shares(row.values["counts"])) for pair in ends.values() for row in pair)
    _, top = nice_domain(0, max(tallest, 1.0), floor=0)
    row_height, gap = 74.0, 18.0
    x = scale((edges[0], edges[-1]), (_START, WIDTH))
    parts = [text(0, 13, unit, "axis")]
    findings = []
    for index, (arm, (first, last)) in enumerate(ends.items()):
        upper = _TOP + index * (row_height + gap)
        y = linear((0, top), (upper + row_height, upper))
        role = group.roles[arm].css
        values = ticks(0, top, 3)
        for value, word in zip(values, tick_texts(values), strict=True):
            parts.append(path([(_START, y(value)), (WIDTH, y(value))], "grid"))
            parts.append(text(_START - 8, y(value) + 4.5, word, "tick", "end"))
        if last is not first:
            parts.append(step_chart(edges, _shares(first.values["counts"]), x, y, "ghost", area=True))
        parts.append(step_chart(edges, _shares(last.values["counts"]), x, y, f"step {role}", area=False))
        word, before = summary_of(first)
        after = summary_of(last)[1]
        change = " → ".join(dict.fromkeys((before, after))) if last is not first else before
        parts.append(text(place, upper + 12, label(arm, 22), f"lab over {role}", anchor))
        parts.append(text(place, upper + 28, f"{word}: {change}", "axis over", anchor))
        findings.append(f"{arm}: {change}")
    bottom = _TOP + row_height * len(ends) + gap * (len(ends) - 1)
    return HistogramStack(parts, x, bottom, next(iter(ends.values()))[0].generation, findings)


def _is_emptier_at_the_right(ends: Ends) -> bool:
    """Whether the bars of the last two fifths, where words would stand, are lower than those of the first two."""
    rows = [_shares(row.values["counts"]) for pair in ends.values() for row in pair]
    part = max(1, 2 * len(rows[0]) // 5)
    return max(max(row[-part:]) for row in rows) < max(max(row[:part]) for row in rows)


def _without_empty_ends(ends: Ends) -> Ends:
    """The same histograms from one bin before the first that any of them fills to one after the last."""
    rows = [row.values["counts"] for pair in ends.values() for row in pair]
    occupied = [number for number, counts in enumerate(zip(*rows, strict=False)) if any(counts)]
    first, last = max(0, min(occupied, default=0) - 1), max(occupied, default=0) + 2

    def crop(row: TableColumns) -> TableColumns:
        edges, counts = row.values["edges"], row.values["counts"]
        return TableColumns(row.generation, {"edges": edges[first : last + 1], "counts": counts[first:last]})

    cropped = {}
    for arm, (before, after) in ends.items():
        new = crop(before)
        cropped[arm] = (new, new if after is before else crop(after))
    return cropped


def _first_and_last(group: ArmGroup, arms: Sequence[str], table: str, column: str, edges: str) -> Ends:
    """By arm the counts of all seeds together, of the first and the last generation that every seed has recorded."""
    ends = {}
    for arm in arms:
        if rows := _pooled_counts(group.entries_of(arm), table, column, edges):
            ends[arm] = (rows[0], rows[-1])
    return ends


def _pooled_counts(entries: Sequence[Entry], table: str, column: str, edges: str) -> list[TableColumns]:
    seeds = len({entry.seed for entry in entries})
    by_generation: dict[int, list[tuple[list[float], list[float]]]] = {}
    for entry in entries:
        counts = _columns(entry.tables.get(table), (column,))
        bounds = _columns(entry.tables.get(table), (edges,))
        if counts and bounds and len(bounds[edges]) == len(counts[column]) + 1:
            by_generation.setdefault(entry.generation, []).append((bounds[edges], counts[column]))
    return [
        TableColumns(
            generation,
            {"edges": rows[0][0], "counts": [sum(some) for some in zip(*(counts for _, counts in rows), strict=True)]},
        )
        for generation, rows in sorted(by_generation.items())
        if len(rows) == seeds and len({tuple(bounds) for bounds, _ in rows}) == 1
    ]


def _seeds(group: ArmGroup, arms: Iterable[str]) -> str:
    seeds = max(len({entry.seed for entry in group.entries_of(arm)}) for arm in arms)
    return f"{seeds} seed{'s together' if seeds > 1 else ''}"


def _median(values: Mapping[str, Sequence[float]]) -> str:
    """The median of a histogram of positive numbers, interpolated on the log scale of its bin."""
    edges, counts = values["edges"], values["counts"]
    half, total = sum(counts) / 2, 0.0
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if count and total + count >= half:
            return f"{low * (high / low) ** ((half - total) / count):.3g}"
        total += count
    return "–"


def _share_above(values: Mapping[str, Sequence[float]], limit: float) -> float:
    """The share of the bins from `limit` up; of the bin that holds the limit the part above it."""
    edges, counts = values["edges"], values["counts"]
    parts = [
        count * min(1.0, max(0.0, (high - limit) / (high - low)))
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    return sum(parts) / max(1.0, sum(counts))


def plot_density(group: ArmGroup, arms: Sequence[str], name: str) -> Figure | None:
    """The fitted densities as small multiples: arms below each other, generations beside, the real density dotted."""
    tables = {arm: _first_seed(group, arm, "density", ("x", "model", "real"), 3) for arm in arms}
    tables = {arm: rows for arm, rows in tables.items() if rows}
    if not tables:
        return None
    columns = max(map(len, tables.values()))
    gap, row_height = 12.0, 62.0
    width = (WIDTH - gap * (columns - 1)) / columns
    tallest = max(max(row.values["real"]) for rows in tables.values() for row in rows)
    peak = max(max(row.values["model"]) for rows in tables.values() for row in rows)
    top = min(_CEILING * tallest, 1.05 * max(peak, tallest)) if tallest > 0 else 1.0
    parts: list[str] = []
    y0 = 16.0
    for arm, rows in tables.items():
        role = group.roles[arm].css
        parts.append(text(0, y0, label(arm, 40), f"lab {role}"))
        upper = y0 + 12
        for column, row in enumerate(rows):
            start = column * (width + gap)
            x = linear((min(row.values["x"]), max(row.values["x"])), (start, start + width))
            y = linear((0, top), (upper + row_height, upper))
            points = list(zip(row.values["x"], row.values["model"], strict=True))
            real = list(zip(row.values["x"], row.values["real"], strict=True))
            parts.append(path([(start, y(0)), (start + width, y(0))], "grid"))
            parts.append(path([(x(a), y(b)) for a, b in points], f"band {role}", closed=True))
            parts.append(path([(x(a), y(b)) for a, b in points], f"line thin {role}"))
            parts.append(path([(x(a), y(b)) for a, b in real], "ref"))
            parts.append(text(start, upper + row_height + 17, f"gen. {row.generation}", "axis"))
        y0 = upper + row_height + 42
    clipped = " Clipped above." if peak > top else ""
    which = {"gaussian": ", in one chain", "mixture": ", along the first axis"}.get(group.learner, "")
    note = f"Density fitted in the first seed{which}; dotted: the real one.{clipped}"
    ends = "; ".join(
        f"{arm}: {max(rows[0].values['model']):.2g} to {max(rows[-1].values['model']):.2g}"
        for arm, rows in tables.items()
    )
    title = "What the model fits"
    return Figure(name, title, note, f"{title}. Height of the peak: {ends}.", y0 - 20, "".join(parts))


def plot_points(group: ArmGroup, arms: Sequence[str], name: str) -> Figure | None:
    """Sample clouds as small multiples: arms below each other, generations beside; a dead mode is a hollow ring."""
    tables = {arm: _first_seed(group, arm, "points", ("x", "y"), 3) for arm in arms}
    centres = {arm: _first_seed(group, arm, "centres", ("x", "y"), 1) for arm in arms}
    tables = {arm: rows for arm, rows in tables.items() if rows and centres[arm]}
    if not tables:
        return None
    columns, gap = max(map(len, tables.values())), 12.0
    side = min(150.0, (WIDTH - gap * (columns - 1)) / columns)
    parts: list[str] = []
    y0 = 16.0
    for arm, rows in tables.items():
        role = group.roles[arm].css
        xs, ys = (list(centres[arm][0].values[axis]) for axis in ("x", "y"))
        margin = 0.15 * max(max(xs) - min(xs), max(ys) - min(ys), 1.0)
        reach = 0.5 * max(max(xs) - min(xs), max(ys) - min(ys)) + margin
        middle = ((max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2)
        parts.append(text(0, y0, label(arm, 40), f"lab {role}"))
        upper = y0 + 10
        for column, row in enumerate(rows):
            start = column * (side + gap)
            x = linear((middle[0] - reach, middle[0] + reach), (start, start + side))
            y = linear((middle[1] - reach, middle[1] + reach), (upper + side, upper))
            dead = _dead_modes(group, arm, row.generation)
            for n, (a, b) in enumerate(zip(xs, ys, strict=True)):
                if n in dead:
                    parts.append(f'<circle class="ring" cx="{x(a):.1f}" cy="{y(b):.1f}" r="5"/>')
            inside = [
                (a, b)
                for a, b in zip(row.values["x"][:_MAX_POINTS], row.values["y"][:_MAX_POINTS], strict=True)
                if abs(a - middle[0]) <= reach and abs(b - middle[1]) <= reach
            ]
            dots = "".join(f"M{x(a):.1f} {y(b):.1f}h.01" for a, b in inside)
            parts.append(f'<path class="cloud {role}" d="{dots}"/>' if dots else "")
            parts.append(text(start, upper + side + 14, f"gen. {row.generation}", "axis"))
        y0 = upper + side + 38
    note = f"Up to {_MAX_POINTS} samples of the first seed; a ring: a mode that is not alive."
    title = "Where the samples lie"
    generations = ", ".join(str(row.generation) for row in next(iter(tables.values())))
    return Figure(
        name, title, note, f"{title}, at generations {generations}: {', '.join(tables)}.", y0 - 18, "".join(parts)
    )


def _dead_modes(group: ArmGroup, arm: str, generation: int) -> set[int]:
    entries = group.entries_of(arm)
    entry = next(e for e in entries if e.seed == entries[0].seed and e.generation == generation)
    tail = _columns(entry.tables.get("tail"), ("counts", "least"))
    if tail is None:
        return set()
    return {
        n for n, (count, least) in enumerate(zip(tail["counts"], tail["least"], strict=True)) if count < max(1.0, least)
    }


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts)
    return [100 * count / total if total > 0 else 0.0 for count in counts]


def _first_seed(group: ArmGroup, arm: str, table: str, names: tuple[str, ...], most: int) -> list[TableColumns]:
    entries = group.entries_of(arm)
    seed = entries[0].seed
    stored = {e.generation: _columns(e.tables.get(table), names) for e in entries if e.seed == seed}
    valid = {generation: columns for generation, columns in stored.items() if columns}
    generations = first_middle_last(sorted(valid), most) if most > 1 else sorted(valid)[:1]
    return [TableColumns(generation, valid[generation]) for generation in generations]


def _columns(table: Any, names: tuple[str, ...]) -> dict[str, list[float]] | None:
    """The columns `names` of a stored table, if all are present, of one length and finite."""
    if not isinstance(table, Mapping) or not all(isinstance(table.get(name), list) for name in names):
        return None
    columns = {name: table[name] for name in names}
    numeric = all(isinstance(v, int | float) and abs(v) < 1e300 for column in columns.values() for v in column)
    if not numeric or len({len(column) for column in columns.values()}) != 1 or not columns[names[0]]:
        return None
    return {name: [float(v) for v in column] for name, column in columns.items()}
