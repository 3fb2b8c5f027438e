"""Figures as SVG: scales, ticks, text, lines and markers, coloured by CSS classes only.

Rule: a figure is one SVG, 480 units wide unless it says so. Light, dark and paper differ in the style sheet alone, and
the same numbers give the same bytes.
"""

import math
import re
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from itertools import pairwise, takewhile

import numpy as np
from numpy.typing import NDArray

from tailkeep.report.phrases import Role
from tailkeep.runs import redact
from tailkeep.sanitize import visible

WIDTH = 480
LETTER = 9.6
"""Units that a letter of a label takes at most, also where a phone enlarges the type."""

Point = tuple[float, float]
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Figure:
    """One figure. `name` is its file's, `note` says how to read it, `finding` states what it shows with its numbers."""

    name: str
    title: str
    note: str
    finding: str
    height: float
    body: str
    width: float = WIDTH

    @property
    def inline(self) -> str:
        """The SVG element for a page that has the style sheet."""
        box = f'viewBox="0 0 {self.width:g} {self.height:g}"'
        return f'<svg class="fig" {box} role="img" aria-label="{escape(safe(self.finding))}">{self.body}</svg>'

    @property
    def file(self) -> str:
        """A file of its own: style block, paper, title and figure."""
        head = 34
        box = f'viewBox="-12 {-head - 12} {self.width + 24:g} {self.height + head + 24:g}" '
        size = f'width="{self.width + 24:g}" height="{self.height + head + 24:g}"'
        paper = f'<rect class="paper" x="-12" y="{-head - 12}" width="100%" height="100%"/>'
        title = text(0, -14, self.title, "headline")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="fig" {box}{size} role="img">'
            f"<title>{escape(safe(self.finding))}</title><style>{figure_style()}</style>{paper}{title}{self.body}</svg>\n"
        )


def figure_style() -> str:
    """The style sheet of figures, which pages include and files carry."""
    return resources.files("tailkeep.report").joinpath("figure.css").read_text(encoding="utf-8")


def safe(content: object) -> str:
    """One line of visible characters without credentials."""
    return visible(redact(str(content)), newline=" ")


def text(x: float, y: float, content: object, kind: str = "", anchor: str = "start") -> str:
    """A line of text whose baseline is at `y`; `kind` are its CSS classes."""
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{place}>{escape(safe(content))}</text>'


def path(points: Iterable[Point], kind: str, *, closed: bool = False) -> str:
    """A line through `points`."""
    corners = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{kind}" d="M{corners}{"Z" if closed else ""}"/>'


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A rectangle with its upper left corner at `x`, `y`."""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def marker(role: Role, x: float, y: float, *, size: float = 1.0, filled: bool = True) -> str:
    """The role's marker around `x`, `y`; a hollow one has the paper inside."""
    s = size
    shapes = {
        "circle": f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3.7 * s:.1f}"/>',
        "square": f'<rect x="{x - 3.4 * s:.1f}" y="{y - 3.4 * s:.1f}" width="{6.8 * s:.1f}" height="{6.8 * s:.1f}"/>',
        "triangle": f'<path d="M{x:.1f} {y - 4.6 * s:.1f}l{4.6 * s:.1f} {8 * s:.1f}h{-9.2 * s:.1f}z"/>',
        "inverted": f'<path d="M{x:.1f} {y + 4.6 * s:.1f}l{4.6 * s:.1f} {-8 * s:.1f}h{-9.2 * s:.1f}z"/>',
        "diamond": (
            f'<path d="M{x:.1f} {y - 5 * s:.1f}l{4.4 * s:.1f} {5 * s:.1f}l{-4.4 * s:.1f} {5 * s:.1f}'
            f'l{-4.4 * s:.1f} {-5 * s:.1f}z"/>'
        ),
        "plus": (
            f'<path d="M{x - 1.5 * s:.1f} {y - 4.4 * s:.1f}h{3 * s:.1f}v{2.9 * s:.1f}h{2.9 * s:.1f}v{3 * s:.1f}'
            f'h{-2.9 * s:.1f}v{2.9 * s:.1f}h{-3 * s:.1f}v{-2.9 * s:.1f}h{-2.9 * s:.1f}v{-3 * s:.1f}h{2.9 * s:.1f}z"/>'
        ),
        "cross": (
            f'<path d="M{x:.1f} {y - 1.9 * s:.1f}l{2.5 * s:.1f} {-2.5 * s:.1f}l{1.9 * s:.1f} {1.9 * s:.1f}'
            f"l{-2.5 * s:.1f} {2.5 * s:.1f}l{2.5 * s:.1f} {2.5 * s:.1f}l{-1.9 * s:.1f} {1.9 * s:.1f}"
            f"l{-2.5 * s:.1f} {-2.5 * s:.1f}l{-2.5 * s:.1f} {2.5 * s:.1f}l{-1.9 * s:.1f} {-1.9 * s:.1f}"
            f'l{2.5 * s:.1f} {-2.5 * s:.1f}l{-2.5 * s:.1f} {-2.5 * s:.1f}l{1.9 * s:.1f} {-1.9 * s:.1f}z"/>'
        ),
    }
    return f'<g class="{"mark" if filled else "hollow"} {role.css}">{shapes[role.marker]}</g>'


def key(role: Role) -> str:
    """The swatch of a key: a piece of line with its marker, 26 x 10 units."""
    line = path([(0, 5), (26, 5)], f"line {role.css}")
    return f'<svg viewBox="0 0 26 10" aria-hidden="true">{line}{marker(role, 13, 5, size=0.9)}</svg>'


def linear(domain: Point, target: Point) -> Scale:
    """The affine map of `domain` onto `target`; what lies beyond is put at the edge."""
    low, high = domain

    def scale(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low) if high > low else 0.5
        return target[0] + share * (target[1] - target[0])

    return scale


def logarithmic(domain: Point, target: Point) -> Scale:
    """As `linear`, of the logarithm of positive values."""
    inner = linear((math.log(domain[0]), math.log(domain[1])), target)
    return lambda value: inner(math.log(max(value, domain[0])))


def nice_domain(low: float, high: float, *, floor: float = -math.inf, ceiling: float = math.inf) -> tuple[float, float]:
    """`low` to `high` widened to whole steps of their ticks, and never beyond `floor` and `ceiling`.

    Values that differ by a millionth at most count as one.
    """
    if not high - low > 1e-6 * max(abs(low), abs(high)):
        half = max(abs(low) * 0.05, 1e-3)
        low, high = low - half, high + half
    step = _step(low, high)
    return max(floor, step * math.floor(low / step + 1e-9)), min(ceiling, step * math.ceil(high / step - 1e-9))


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """At most about `most` round numbers from `low` to `high`."""
    step = _step(low, high, most)
    first = math.ceil(low / step - 1e-9)
    return [step * n for n in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`, 2 and 5 times them below three decades, round numbers below one."""
    if high < 8 * low:
        return ticks(low, high)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high < 1000 * low else (1,)
    values = [factor * 10.0**n for n in decades for factor in factors if low <= factor * 10.0**n <= high * (1 + 1e-9)]
    stride = -(-len(values) // 7)
    return values[::stride] if len(values) > 1 else [low, high]


def _step(low: float, high: float, most: int = 7) -> float:
    raw = (high - low) / most
    size = 10.0 ** math.floor(math.log10(raw))
    return next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw * (1 - 1e-9))


def tick_texts(values: Sequence[float]) -> list[str]:
    """`values` with as many decimals as tell them apart, such as 0.50 or 2,000."""
    if not values:
        return []
    steps = [abs(b - a) for a, b in pairwise(values) if b != a] or [abs(values[0]) or 1.0]
    step, size = min(steps), max(map(abs, values))
    if size >= 1e6 or (0 < step < 1e-5):
        digits = next(n for n in range(2, 18) if len({f"{value:.{n}g}" for value in values}) == len(values) or n == 17)
        return [short_exponent(f"{value:.{digits}g}").replace("-", "\N{MINUS SIGN}") for value in values]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    places += round(step * 10**places, 6) != round(step * 10**places)
    return [f"{value:,.{places}f}".replace("-", "\N{MINUS SIGN}") for value in values]


def short_exponent(text: str) -> str:
    """`6.27e+10` as `6.27e10`, `1.00e-05` as `1.00e-5`."""
    return re.sub(r"e([+-])0*(\d)", lambda match: f"e{match[1].strip('+')}{match[2]}", text)


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """`heights` moved apart to at least `gap`, in their order, and between `low` and `high` as far as there is room."""
    order = sorted(range(len(heights)), key=lambda n: heights[n])
    gap = min(gap, (high - low) / max(1, len(heights) - 1)) if len(heights) > 1 else gap
    places: list[float] = []
    for n in order:
        height = min(max(heights[n], low), high)
        places.append(max(height, places[-1] + gap) if places else height)
    for n in range(len(places) - 1, -1, -1):
        places[n] = min(places[n], high if n == len(places) - 1 else places[n + 1] - gap)
    result = [0.0] * len(heights)
    for n, place in zip(order, places, strict=True):
        result[n] = place
    return result


def label(content: str, longest: int = 18) -> str:
    """`content` on one line of visible characters; a long one loses its middle, since variants differ at the end."""
    shown = safe(content)
    if len(shown) <= longest:
        return shown
    length = longest - 1
    return shown[: length - length // 2] + "…" + shown[len(shown) - length // 2 :]


def distinct_labels(names: Sequence[str], longest: Sequence[int]) -> list[str]:
    """Each of `names` by `label`; different ones that would read the same lose the beginning that they share.

    Where that is not enough they are numbered.
    """
    whole = [safe(name) for name in names]
    shown = [label(name, most) for name, most in zip(whole, longest, strict=True)]
    for same in _alike(whole, shown):
        letters = zip(*(whole[index] for index in same), strict=False)
        start = max(0, sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, letters)) - 2)
        for index in same:
            shown[index] = label(f"…{whole[index][start:]}", longest[index])
    for same in _alike(whole, shown):
        numbers = {name: n for n, name in enumerate(dict.fromkeys(whole[index] for index in same), 1)}
        for index in same:
            shown[index] = f"{label(whole[index], longest[index] - 3)} {numbers[whole[index]]}"
    return shown


def _alike(names: Sequence[str], shown: Sequence[str]) -> list[list[int]]:
    """The places of different names that are shown alike."""
    places: dict[str, list[int]] = {}
    for index, words in enumerate(shown):
        places.setdefault(words, []).append(index)
    return [same for same in places.values() if len({names[index] for index in same}) > 1]


_THIN, _BROAD = frozenset("iljtfrI.,:;'|!()[]{}/ -·‖"), frozenset("mwMWQOGD@%&…—")


def text_width(content: str, *, size: float = 15, bold: bool = False) -> float:
    """Units that a line of text takes, by classes of letters; `size` is the one of a phone, the fonts are DejaVu's."""
    ems = sum(0.42 if one in _THIN else 1.0 if one in _BROAD or ord(one) > 0x2E7F else 0.65 for one in content)
    return size * ems * (1.05 if bold else 0.95)


def fitted(content: str, room: float, *, bold: bool = False) -> str:
    """`content` on one line of visible characters, and as much of it as `room` units hold; see `label`."""
    shown = safe(content)
    longest = len(shown)
    while longest > 1 and text_width(label(shown, longest), bold=bold) > room:
        longest -= 1
    return label(shown, longest)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A grey (h, w) image as PNG."""
    height, width = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def image(x: float, y: float, width: float, height: float, pixels: NDArray[np.uint8]) -> str:
    """A grey (h, w) image whose pixels are not smoothed."""
    source = "data:image/png;base64," + b64encode(png(pixels)).decode()
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<image class="pixels" {place} href="{source}"/>'


class UniqueNames:
    """Unique file names made of the names of learners, metrics and arms, which may hold any character."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def new(self, *words: str) -> str:
        """A new name of `words`."""
        base = "-".join(re.sub(r"[^a-z0-9_.]+", "-", word.lower()).strip("-.")[:60] or "x" for word in words)
        name, number = base, 1
        while name in self._used:
            number += 1
            name = f"{base}-{number}"
        self._used.add(name)
        return name
