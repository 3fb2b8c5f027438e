"""Charts that every report shares: lines over generations, and histograms on shared axes.

Rule: a chart knows neither runs nor files. A band or bar is a 95 % CI; where there is none, its bounds are NaN.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tailkeep.report.phrases import Role
from tailkeep.report.svg import (
    LETTER,
    WIDTH,
    Figure,
    Scale,
    distinct_labels,
    linear,
    log_ticks,
    logarithmic,
    marker,
    nice_domain,
    path,
    short_exponent,
    spread,
    text,
    text_width,
    tick_texts,
    ticks,
)

_MAX_MARKERS = 12
_FEW = 4
_ROW_LETTERS = 23
_TOP, _FOOT = 26.0, 46.0


@dataclass(frozen=True)
class Series:
    """One line: a mean with bounds at each x, NaN where unknown. `end` is what stands beside its last value."""

    label: str
    role: Role
    xs: Sequence[float]
    means: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]
    end: str
    size: float = 1.0
    theory: Sequence[float] = ()
    banded: bool = True

    @property
    def last(self) -> float:
        """The last finite mean, NaN without one."""
        return next((mean for mean in reversed(self.means) if math.isfinite(mean)), math.nan)


@dataclass(frozen=True)
class Axis:
    """The vertical axis: its unit, its possible range, whether it is logarithmic, and labelled reference values."""

    unit: str = ""
    floor: float = -math.inf
    ceiling: float = math.inf
    log: bool = False
    references: tuple[tuple[float, str], ...] = ()


def line_chart(
    name: str,
    title: str,
    series: Sequence[Series],
    axis: Axis,
    *,
    note: str,
    finding: str,
    height: float = 330,
    x_label: str = "generation",
    x_log: bool = False,
    plain: bool = False,
) -> Figure:
    """The lines of `series` with their bands and direct labels; `plain` leaves out the markers of a dense curve."""
    few = len(series) <= _FEW
    ends = [one.end for one in series]
    names = distinct_labels([one.label for one in series], [18 if few else _name_length(end) for end in ends])
    texts = list(zip(names, ends, strict=True))
    longest = max((max(len(a), len(b)) if few else len(a) + len(b) + 1 for a, b in texts), default=0)
    right = WIDTH - (LETTER * longest + 20)
    y, ys, (low, high) = _y_scale(series, axis, height)
    left = 14 + 8.0 * max((len(word) for _, word in ys), default=2)
    xs = sorted({x for one in series for x in one.xs})
    x, x_ticks = _x_scale(xs, left, right, log=x_log)
    parts = [text(0, 13, axis.unit, "axis")]
    parts += [path([(left, y(value)), (right, y(value))], "grid") for value, _ in ys]
    parts += [text(left - 8, y(value) + 4.5, word, "tick", "end") for value, word in ys]
    parts += [text(x(value), height - _FOOT + 20, word, "tick", "middle") for value, word in x_ticks]
    parts.append(text((left + right) / 2, height - 8, x_label, "axis", "middle"))
    parts += [path([(left, y(value)), (right, y(value))], "ref") for value, _ in axis.references]
    parts += [_band(one, x, y) for one in series if one.banded]
    for one in series:
        if one.theory:
            parts.append(_line(one.xs, one.theory, x, y, f"theory {one.role.css}"))
        parts.append(_line(one.xs, one.means, x, y, f"line {one.role.css}"))
        points = [(a, b) for a, b in zip(one.xs, one.means, strict=True) if math.isfinite(b)]
        stride = max(1, math.ceil(len(points) / _MAX_MARKERS))
        parts += [marker(one.role, x(a), y(b), size=one.size) for a, b in points[::-1][::stride] if not plain]
    for value, word in axis.references:
        parts.append(text(left + 4, y(value) - 6, word, "axis over"))
    parts += _end_labels(series, texts, x, y, right, few=few, bottom=height - _FOOT)
    if any(not low - 1e-9 <= bound <= high + 1e-9 for bound in _band_bounds(series)):
        note = f"{note} A band goes on beyond the axis."
    return Figure(name, title, note, finding, height, "".join(parts))


def _band_bounds(series: Sequence[Series]) -> list[float]:
    return [bound for one in series if one.banded for bound in (*one.lows, *one.highs) if math.isfinite(bound)]


def _name_length(end: str) -> int:
    """The letters that a name beside a line may have, in one row with its last value."""
    return min(18, max(10, _ROW_LETTERS - 1 - len(end)))


YScale = tuple[Scale, list[tuple[float, str]], tuple[float, float]]
"""The scale of the vertical axis, its ticks with their texts, and its ends."""


def _y_scale(series: Sequence[Series], axis: Axis, height: float) -> YScale:
    """Above a reference at the top there is room for its label."""
    scale = _y_scale_from(_TOP, series, axis, height)
    if any(scale[0](value) < _TOP + 8 for value, _ in axis.references):
        return _y_scale_from(_TOP + 16, series, axis, height)
    return scale


def _y_scale_from(top: float, series: Sequence[Series], axis: Axis, height: float) -> YScale:
    means = [mean for one in series for mean in (*one.means, *one.theory) if math.isfinite(mean)]
    means += [value for value, _ in axis.references]
    low, high = min(means), max(means)
    bounds = _band_bounds(series)
    target = (height - _FOOT, top)
    if axis.log and low > 0:
        # A band never takes more than a decade beyond the lines.
        low, high = max(low / 10, min([low, *bounds])), min(high * 10, max([high, *bounds]))
        if high < 1.5 * low:
            low, high = low / 1.5, high * 1.5
        values = log_ticks(low, high)
        return logarithmic((low, high), target), list(zip(values, _log_texts(values), strict=True)), (low, high)
    reach = max(high - low, 1e-12)
    low, high = max(low - reach, min([low, *bounds])), min(high + reach, max([high, *bounds]))
    low, high = nice_domain(low, high, floor=axis.floor, ceiling=axis.ceiling)
    values = ticks(low, high)
    return linear((low, high), target), list(zip(values, tick_texts(values), strict=True)), (low, high)


def _log_texts(values: Sequence[float]) -> list[str]:
    texts = [f"{value:,.10g}" if 1e-4 <= value < 1e6 else "" for value in values]
    small = [value for value, word in zip(values, texts, strict=True) if not word]
    # As many digits as the ticks have, such as 2.5e-5.
    digits = next(n for n in range(17) if all(math.isclose(float(f"{v:.{n}e}"), v, rel_tol=1e-9) for v in small))
    return [word or short_exponent(f"{value:.{digits}e}") for value, word in zip(values, texts, strict=True)]


def _x_scale(xs: Sequence[float], left: float, right: float, *, log: bool) -> tuple[Scale, list[tuple[float, str]]]:
    if log and xs[0] == xs[-1]:
        return logarithmic((xs[0] / 2, 2 * xs[0]), (left, right)), [(xs[0], f"{xs[0]:,.10g}")]
    if log:
        values = log_ticks(xs[0], xs[-1])
        values = values[:: max(1, -(-len(values) // 6))]
        return logarithmic((xs[0], xs[-1]), (left, right)), [(v, f"{v:,.10g}") for v in values]
    if len(xs) == 1:
        return linear((xs[0] - 1, xs[0] + 1), (left, right)), [(xs[0], f"{xs[0]:,g}")]
    whole = all(float(value).is_integer() for value in xs)
    values = [v for v in ticks(xs[0], xs[-1], 5) if not whole or float(round(v, 9)).is_integer()]
    return linear((xs[0], xs[-1]), (left, right)), list(zip(values, tick_texts(values), strict=True))


def _line(xs: Sequence[float], ys: Sequence[float], x: Scale, y: Scale, kind: str) -> str:
    """Connects finite neighbours; a gap interrupts the line."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(xs, ys, strict=True):
        if math.isfinite(b):
            pieces[-1].append((x(a), y(b)))
        else:
            pieces.append([])
    return "".join(path(piece, kind) for piece in pieces if len(piece) > 1)


def _band(one: Series, x: Scale, y: Scale) -> str:
    rows = [(a, lo, hi) for a, lo, hi in zip(one.xs, one.lows, one.highs, strict=True) if math.isfinite(lo + hi)]
    if len(one.xs) == 1 and rows:
        (a, low, high), *_ = rows
        return path([(x(a), y(low)), (x(a), y(high))], f"whisk {one.role.css}")
    if len(rows) < 2:
        return ""
    points = [(x(a), y(hi)) for a, _, hi in rows] + [(x(a), y(lo)) for a, lo, _ in reversed(rows)]
    return path(points, f"band {one.role.css}", closed=True)


def _end_labels(
    series: Sequence[Series],
    texts: Sequence[tuple[str, str]],
    x: Scale,
    y: Scale,
    right: float,
    *,
    few: bool,
    bottom: float,
) -> list[str]:
    parts: list[str] = []
    heights = [y(one.last) if math.isfinite(one.last) else bottom for one in series]
    places = spread(heights, 37 if few else 17.5, _TOP, bottom - (16 if few else 0))
    for one, (name, end), height, place in zip(series, texts, heights, places, strict=True):
        if few:
            parts.append(text(right + 11, place + 1, name, f"lab {one.role.css}"))
            parts.append(text(right + 11, place + 17, end, f"val {one.role.css}"))
        else:
            parts.append(text(right + 11, place + 4.5, f"{name} {end}", f"sig {one.role.css}"))
        end_x = x(max((a for a, b in zip(one.xs, one.means, strict=True) if math.isfinite(b)), default=0))
        target = place - 4 if few else place
        if abs(target - height) > 9 and right - end_x < 4:
            parts.append(path([(right + 2, height), (right + 8, target)], "lead"))
    return parts


def step_chart(edges: Sequence[float], shares: Sequence[float], x: Scale, y: Scale, kind: str, *, area: bool) -> str:
    """A histogram as an outline, or with `area` as a filled shape; equal neighbours share their height."""
    corners = [(x(edge), y(share)) for share, pair in zip(shares, pairwise(edges), strict=True) for edge in pair]
    ground = [(x(edges[0]), y(0)), *corners, (x(edges[-1]), y(0))]
    return path(ground if area else corners, kind, closed=area)


@dataclass(frozen=True)
class Histogram:
    """The shares (in %) of the bins between `edges`, one more than there are shares."""

    label: str
    role: Role
    edges: Sequence[float]
    shares: Sequence[float]


def histogram_chart(
    name: str,
    title: str,
    histograms: Sequence[Histogram],
    *,
    unit: str,
    x_label: str,
    note: str,
    finding: str,
    x_log: bool = False,
) -> Figure:
    """Outlines over each other, the second one as a grey area behind the first; the legend stands above."""
    height = 280
    start, top, bottom = 46.0, 40.0, height - _FOOT
    lows, highs = ([pick(one.edges) for one in histograms] for pick in (min, max))
    domain = (min(lows), max(highs))
    x = (logarithmic if x_log else linear)(domain, (start, WIDTH))
    _, ceiling = nice_domain(0, max((max(one.shares) for one in histograms), default=1.0) or 1.0, floor=0)
    y = linear((0, ceiling), (bottom, top))
    parts = [text(0, 13, unit, "axis")]
    values = ticks(0, ceiling, 5)
    parts += [path([(start, y(value)), (WIDTH, y(value))], "grid") for value in values]
    parts += [
        text(start - 8, y(value) + 4.5, word, "tick", "end")
        for value, word in zip(values, tick_texts(values), strict=True)
    ]
    _, x_ticks = _x_scale([domain[0], domain[1]], start, WIDTH, log=x_log)
    for value, word in x_ticks:
        if domain[0] <= value <= domain[1]:
            at_end = x(value) + text_width(word) / 2 > WIDTH
            parts.append(text(WIDTH if at_end else x(value), bottom + 20, word, "tick", "end" if at_end else "middle"))
    parts.append(text((start + WIDTH) / 2, height - 8, x_label, "axis", "middle"))
    for index, one in reversed(list(enumerate(histograms))):
        if index:
            parts.append(step_chart(one.edges, one.shares, x, y, "ghost", area=True))
        parts.append(step_chart(one.edges, one.shares, x, y, f"step {one.role.css}", area=False))
    at = start
    for one in histograms if len(histograms) > 1 else ():
        parts.append(text(at, 31, one.label, f"sig over {one.role.css}"))
        at += LETTER * len(one.label) + 18
    return Figure(name, title, note, finding, height, "".join(parts))
