"""What is left of the tail: one bar per person, mode, class or frequency band, generation by generation.

Rule: the bars pool the seeds, their height is the square root of the count, and a dash means that nothing is left. What
is alive is decided seed by seed, as the metrics do. A table of an unexpected shape is skipped.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailkeep.report.lab.run import ArmGroup
from tailkeep.report.lab.samples import first_middle_last
from tailkeep.report.svg import WIDTH, Figure, label, path, rect, text

_MAX_ITEMS, _LEFT, _RIGHT, _BAR_HEIGHT, _ROW = 64, 66.0, 380.0, 26.0, 33.0
_WORDS = {
    "people": ("Who is still written about", "people, most frequent first", "named"),
    "modes": ("Which modes are still sampled", "modes, heaviest first", "alive"),
    "classes": ("Which classes are still generated", "classes, most frequent first", "alive"),
    "words": ("Which words still occur", "words in real text, most frequent first", "covered"),
}


@dataclass(frozen=True)
class Tail:
    """Counts of the tail's items in samples, beside real ones, and the share of the seeds in which an item is alive."""

    kind: str
    real: Sequence[float]
    counts: Sequence[float]
    alive: Sequence[float]
    names: Sequence[str]


def pooled_tails(group: ArmGroup, arm: str) -> dict[int, Tail]:
    """The tail of each generation, all seeds together; only generations that every seed recorded."""
    entries = group.entries_of(arm)
    seeds = len({entry.seed for entry in entries})
    by_generation: dict[int, list[Tail]] = {}
    for entry in entries:
        if tail := _read(entry.tables.get("tail")):
            by_generation.setdefault(entry.generation, []).append(tail)
    return {
        generation: _sum(tails)
        for generation, tails in sorted(by_generation.items())
        if len(tails) == seeds and len({(tail.kind, len(tail.counts)) for tail in tails}) == 1
    }


def _read(table: Any) -> Tail | None:
    if not isinstance(table, Mapping) or table.get("kind") not in _WORDS:
        return None
    real, counts = _numbers(table.get("real")), _numbers(table.get("counts"))
    least = _numbers(table.get("least", [0.0] * len(counts)))
    names = table.get("names", [""] * len(counts))
    if not counts or not isinstance(names, list) or {len(real), len(least), len(names)} != {len(counts)}:
        return None
    alive = [float(count >= max(1.0, limit)) for count, limit in zip(counts, least, strict=True)]
    return Tail(str(table["kind"]), real, counts, alive, [str(name) for name in names])


def _numbers(column: Any) -> list[float]:
    """The column as finite numbers >= 0; empty if it holds anything else."""
    if not isinstance(column, list) or not all(isinstance(v, int | float) and 0 <= v < 1e300 for v in column):
        return []
    return [float(value) for value in column]


def _sum(tails: Sequence[Tail]) -> Tail:
    def total(columns: Sequence[Sequence[float]]) -> list[float]:
        return [sum(values) for values in zip(*columns, strict=True)]

    real, counts, alive = (total([getattr(tail, key) for tail in tails]) for key in ("real", "counts", "alive"))
    return Tail(tails[0].kind, real, counts, [seeds / len(tails) for seeds in alive], tails[0].names)


def plot_tail(group: ArmGroup, arms: Sequence[str], name: str) -> Figure | None:
    """The strips of `arms` at the first, a middle and the last generation; None where none has a tail."""
    tails = {arm: pooled_tails(group, arm) for arm in arms}
    tails = {arm: tail for arm, tail in tails.items() if tail}
    if not tails:
        return None
    first = next(iter(next(iter(tails.values())).values()))
    if len(first.counts) > _MAX_ITEMS:
        return None
    title, axis, participle = _WORDS[first.kind]
    items = f"the {len(first.counts)} {axis}" if first.kind != "words" else axis
    parts = [text(_LEFT, 13, items, "axis"), text(WIDTH, 13, participle, "axis", "end")]
    shares = {arm: {g: _heights(tail) for g, tail in row.items()} for arm, row in tails.items()}
    top = max((h for row in shares.values() for heights in row.values() for h in heights), default=1.0) or 1.0
    y = 33.0
    findings = []
    for arm, row in tails.items():
        role = group.roles[arm].css
        parts.append(text(0, y + 3, label(arm, 40), f"lab {role}"))
        ground = y + 8 + _BAR_HEIGHT + 4
        generations = first_middle_last(sorted(row))
        for generation in generations:
            tail = row[generation]
            parts.append(text(_LEFT - 8, ground, f"gen. {generation}", "axis", "end"))
            parts.append(_strip(tail, shares[arm][generation], top, ground, role))
            parts.append(text(WIDTH, ground, _left_over(tail), f"sig {role}", "end"))
            ground += _ROW
        findings.append(f"{arm}: {_left_over(row[generations[0]])} to {_left_over(row[generations[-1]])}")
        y = ground - _ROW + 23
    seeds = max(len({entry.seed for entry in group.entries_of(arm)}) for arm in tails)
    return Figure(name, title, _note(first.kind, seeds), f"{title}. {'; '.join(findings)}.", y - 8, "".join(parts))


def _heights(tail: Tail) -> list[float]:
    if tail.kind == "words":
        return [count / real if real else 0.0 for count, real in zip(tail.counts, tail.real, strict=True)]
    total = sum(tail.counts) or 1.0
    return [math.sqrt(count / total) for count in tail.counts]


def _strip(tail: Tail, heights: Sequence[float], top: float, ground: float, role: str) -> str:
    step = (_RIGHT - _LEFT) / len(heights)
    width = max(1.0, step - max(1.0, 0.12 * step))
    parts = []
    for n, (height, alive, count) in enumerate(zip(heights, tail.alive, tail.counts, strict=True)):
        x = _LEFT + n * step
        if count <= 0:
            parts.append(path([(x, ground - 0.6), (x + width, ground - 0.6)], "gone"))
        else:
            size = max(1.5, _BAR_HEIGHT * height / top)
            parts.append(rect(x, ground - size, width, size, f"bar {role}" if alive >= 0.5 else f"bar pale {role}"))
    return "".join(parts)


def _left_over(tail: Tail) -> str:
    if tail.kind == "words":
        return f"{sum(tail.counts) / max(1.0, sum(tail.real)):.0%}".replace("%", " %")
    return f"{sum(tail.alive):.1f}".removesuffix(".0") + f" of {len(tail.counts)}"


def _note(kind: str, seeds: int) -> str:
    pooled, rarely, beside = "one seed", "", ""
    if seeds > 1:
        pooled, rarely = f"{seeds} seeds together", " in most seeds"
        beside = {"people": "named", "modes": "alive", "classes": "alive"}.get(kind, "")
        beside = f" Beside: how many are {beside} in a seed, on average." if beside else ""
    heights = "bar height: square root of the share; a dash: none"
    lead, tail = {
        "people": (
            "Samples that name each invented person",
            f"{heights}{'; pale: not named in most seeds' if seeds > 1 else ''}. Real documents follow Zipf’s law, so "
            "people to the right are rare.",
        ),
        "modes": ("Samples at each mode", f"{heights}; pale: below a fifth of the true share{rarely}, so not alive."),
        "classes": (
            "Generated images that a classifier assigns to each class",
            f"{heights}; pale: 1 % or less{rarely}, so not alive.",
        ),
        "words": (
            "Share of the words of each frequency band that the samples hold",
            "bands from over 100 times in real text to once.",
        ),
    }[kind]
    return f"{lead}, {pooled}; {tail}{beside}"
