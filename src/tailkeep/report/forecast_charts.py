"""Charts of a forecast: survival over generations with its ribbons, and selection exponents with their CIs.

Rule: survival is a share of items from 0 to 100 %; a line is a median, hollow points were measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tailkeep.report.phrases import Role
from tailkeep.report.svg import (
    LETTER,
    WIDTH,
    Figure,
    Scale,
    label,
    linear,
    marker,
    path,
    spread,
    text,
    tick_texts,
    ticks,
)

_TOP, _FOOT, _HEIGHT = 26.0, 46.0, 330.0
_ROW = 30.0


@dataclass(frozen=True)
class SurvivalLine:
    """One line: quantiles p5, p25, p50, p75, p95 at each generation, and `measured` (generation, share) points.

    `opacity` sets lines of one role apart; `ribbons` 1 draws the central 50 %, 2 also the central 90 %.
    """

    label: str
    role: Role
    generations: Sequence[float]
    quantiles: Sequence[Sequence[float]]
    measured: Sequence[tuple[float, float]] = ()
    opacity: float = 1.0
    ribbons: int = 2


def survival_chart(
    name: str,
    title: str,
    lines: Sequence[SurvivalLine],
    *,
    note: str,
    finding: str,
    goal: tuple[float, str] | None = None,
) -> Figure:
    """The lines over generations, with their ribbons, direct labels at their ends, and a dotted line at the `goal`."""
    ends = [f"{100 * line.quantiles[-1][2]:.0f} %" for line in lines]
    longest = max(len(label(line.label, 17)) for line in lines)
    left, right = 50.0, WIDTH - min(LETTER * (longest + 6) + 14, 190)
    last = max(line.generations[-1] for line in lines)
    x, y = linear((0, last), (left, right)), linear((0, 1), (_HEIGHT - _FOOT, _TOP))
    parts = [text(0, 13, "% of the items that are still written", "axis")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(path([(left, y(share)), (right, y(share))], "grid"))
        parts.append(text(left - 8, y(share) + 4.5, f"{100 * share:.0f}", "tick", "end"))
    values = [value for value in ticks(0, last, 6) if float(value).is_integer()]
    for value, word in zip(values, tick_texts(values), strict=True):
        parts.append(text(x(value), _HEIGHT - _FOOT + 20, word, "tick", "middle"))
    parts.append(text((left + right) / 2, _HEIGHT - 8, "generation", "axis", "middle"))
    parts += [_draw_line(line, x, y) for line in lines]
    if goal:
        parts.append(path([(left, y(goal[0])), (right, y(goal[0]))], "ref"))
        parts.append(text(WIDTH, 13, goal[1], "axis", "end"))
    heights = spread([y(line.quantiles[-1][2]) for line in lines], 17, _TOP, _HEIGHT - _FOOT)
    for line, end, height in zip(lines, ends, heights, strict=True):
        parts.append(
            f'<g class="{line.role.css}">{text(right + 8, height + 4.5, f"{label(line.label, 17)}  {end}", "val")}</g>'
        )
    return Figure(name, title, note, finding, _HEIGHT, "".join(parts))


def _draw_line(line: SurvivalLine, x: Scale, y: Scale) -> str:
    """The median over its ribbons; of a single generation a filled point on its 90 % interval."""
    parts = []
    if len(line.generations) == 1:
        (generation,), (values,) = line.generations, line.quantiles
        place = x(generation)
        parts.append(f'<g class="{line.role.css}">{path([(place, y(values[0])), (place, y(values[4]))], "whisk")}</g>')
        parts.append(marker(line.role, place, y(values[2])))
    for low, high in ((1, 3), (0, 4))[: line.ribbons]:
        pairs = list(zip(line.generations, line.quantiles, strict=True))
        upper = [(x(g), y(values[high])) for g, values in pairs]
        lower = [(x(g), y(values[low])) for g, values in reversed(pairs)]
        parts.append(path([*upper, *lower], f"band {line.role.css}", closed=True))
    points = [(x(g), y(values[2])) for g, values in zip(line.generations, line.quantiles, strict=True)]
    parts.append(path(points, f"line {line.role.css}"))
    parts += [marker(line.role, x(g), y(share), filled=False) for g, share in line.measured]
    return f'<g opacity="{line.opacity:g}">{"".join(parts)}</g>'


def exponent_chart(
    name: str, title: str, rows: Sequence[tuple[str, float, float, float]], role: Role, *, note: str, finding: str
) -> Figure:
    """One row (label, b, low, high) per text around the line b = 1; a filled marker where the interval excludes 1."""
    height = _TOP + _ROW * len(rows) + _FOOT
    low, high = min(0.9, *(row[2] for row in rows)), max(1.1, *(row[3] for row in rows))
    left, right = 130.0, WIDTH - LETTER * len("0.00 (0.00 to 0.00)") - 14
    x = linear((low, high), (left, right))
    parts = [path([(x(1), _TOP - 6), (x(1), height - _FOOT)], "zero"), text(x(1), 13, "drift alone", "axis", "middle")]
    for number, (words, value, lower, upper) in enumerate(rows):
        y = _TOP + _ROW * (number + 0.5)
        parts.append(text(0, y + 4.5, label(words, 15), "row"))
        parts.append(f'<g class="{role.css}">{path([(x(lower), y), (x(upper), y)], "whisk")}</g>')
        parts.append(marker(role, x(value), y, filled=not lower <= 1 <= upper))
        parts.append(text(WIDTH, y + 4.5, f"{value:.2f} ({lower:.2f} to {upper:.2f})", "num", "end"))
    values = ticks(low, high, 3)
    for value, word in zip(values, tick_texts(values), strict=True):
        parts.append(text(x(value), height - _FOOT + 18, word, "tick", "middle"))
    parts.append(text((left + right) / 2, height - 8, "selection exponent b", "axis", "middle"))
    return Figure(name, title, note, finding, height, "".join(parts))
