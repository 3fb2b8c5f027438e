"""Distributions by arm and generation: confidence on logit bins, fitted densities, samples in the plane.

Rule: a table of an unexpected shape is skipped; the rest of the report does not depend on it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailkeep.report.charts import step_chart
from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.lab.samples import first_middle_last
from tailkeep.report.svg import WIDTH, Figure, label, linear, nice_domain, path, text, tick_texts, ticks

_MAX_POINTS = 300
_CEILING = 2.5
_TICKS = (0.01, 0.5, 0.99, 0.9999)
_LIMIT = 0.99


@dataclass(frozen=True)
class TableColumns:
    """Equally long columns of one table, at one generation."""

    generation: int
    values: Mapping[str, Sequence[float]]


def plot_confidence(group: ArmGroup, arms: Sequence[str], name: str, *, held_out: bool = False) -> Figure | None:
    """How probable the tokens of samples (or of held-out text) are under the model: first and last generation."""
    tables = {arm: _pooled_confidence(group.entries_of(arm)) for arm in arms}
    tables = {arm: rows for arm, rows in tables.items() if rows}
    if not tables:
        return None
    column = "real" if held_out else "common"
    edges = next(iter(tables.values()))[0].values["edges"]
    ends = {arm: (rows[0], rows[-1]) for arm, rows in tables.items()}
    tallest = max(max(_shares(row.values[column])) for pair in ends.values() for row in pair)
    _, top = nice_domain(0, max(tallest, 1.0), floor=0)
    row_height, start, first_y = 74.0, 44.0, 34.0
    x = linear((edges[0], edges[-1]), (start, WIDTH))
    parts = [text(0, 13, "% of tokens", "axis")]
    findings = []
    limit = math.log(_LIMIT / (1 - _LIMIT))
    bottom = first_y + row_height * len(ends) + 18 * (len(ends) - 1)
    for index, (arm, (first, last)) in enumerate(ends.items()):
        upper = first_y + index * (row_height + 18)
        y = linear((0, top), (upper + row_height, upper))
        role = group.roles[arm].css
        values = ticks(0, top, 3)
        for value, word in zip(values, tick_texts(values), strict=True):
            parts.append(path([(start, y(value)), (WIDTH, y(value))], "grid"))
            parts.append(text(start - 8, y(value) + 4.5, word, "tick", "end"))
        if last is not first:
            parts.append(step_chart(edges, _shares(first.values[column]), x, y, "ghost", area=True))
        parts.append(step_chart(edges, _shares(last.values[column]), x, y, f"step {role}", area=False))
        above = [f"{_share_above(row.values, column, limit):.0%}".replace("%", " %") for row in (first, last)]
        change = " → ".join(dict.fromkeys(above)) if last is not first else above[0]
        parts.append(text(start + 10, upper + 12, label(arm, 22), f"lab over {role}"))
        parts.append(text(start + 10, upper + 28, f"p > {_LIMIT}: {change}", "axis over"))
        findings.append(f"{arm}: {change}")
    parts.insert(1, path([(x(limit), first_y - 12), (x(limit), bottom)], "ref"))
    parts += [text(x(math.log(p / (1 - p))), bottom + 18, f"{p:g}", "tick", "middle") for p in _TICKS]
    parts.append(text((start + WIDTH) / 2, bottom + 38, "probability of the token (logit scale)", "axis", "middle"))
    what = "held-out text" if held_out else "its own samples"
    title = f"How confident the model is of {what}"
    generations = f"{next(iter(ends.values()))[0].generation}; line: the last one"
    seeds = max(len({entry.seed for entry in group.entries_of(arm)}) for arm in ends)
    note = (
        f"Probability that the model gives to each token of {what}, {seeds} seed{'s together' if seeds > 1 else ''}. "
        f"Grey: generation {generations}. Dotted: p = {_LIMIT}."
    )
    finding = f"{title}. Share of tokens with p > {_LIMIT}, first to last generation: {'; '.join(findings)}."
    return Figure(name, title, note, finding, bottom + 46, "".join(parts))


def _pooled_confidence(entries: Sequence[Entry]) -> list[TableColumns]:
    """The counts of all seeds together, for each generation that every seed has recorded."""
    seeds = len({entry.seed for entry in entries})
    by_generation: dict[int, list[Mapping[str, Sequence[float]]]] = {}
    for entry in entries:
        bins = _columns(entry.tables.get("confidence"), ("real", "common"))
        edges = _columns(entry.tables.get("confidence"), ("logit_edges",))
        if bins and edges and len(edges["logit_edges"]) == len(bins["real"]) + 1:
            by_generation.setdefault(entry.generation, []).append({**bins, "edges": edges["logit_edges"]})
    return [
        TableColumns(
            generation,
            {
                "edges": tables[0]["edges"],
                **{c: [sum(some) for some in zip(*(t[c] for t in tables), strict=True)] for c in ("real", "common")},
            },
        )
        for generation, tables in sorted(by_generation.items())
        if len(tables) == seeds and len({tuple(t["edges"]) for t in tables}) == 1
    ]


def _share_above(values: Mapping[str, Sequence[float]], column: str, limit: float) -> float:
    """The share of the bins from `limit` up; of the bin that holds the limit the part above it."""
    edges, counts = values["edges"], values[column]
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
    note = f"Density fitted in the first seed (of one chain, or along the first axis); dotted: the real one.{clipped}"
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
