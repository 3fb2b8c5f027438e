"""Figures as SVG and PNG: line styles, axes, labels and rendering.

Rule: an arm has one line style (colour, dash, marker) in every figure. No pyplot, no global state, no date: the same
numbers give the same bytes.
"""

import io
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tailkeep.sanitize import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK, MUTED, HAIR, PAPER = "#23262b", "#666b73", "#d9dbdf", "#ffffff"

# Okabe and Ito's palette, darkened to 3:1 on white, and its counterpart on a dark page.
COLOURS = (
    ("#0072b2", "#5cb3ea"),
    ("#c44e00", "#ff9456"),
    ("#00805e", "#35c79c"),
    ("#a3478a", "#e493cb"),
    ("#946800", "#e3b341"),
    ("#3f8fc9", "#9fd0f5"),
    ("#7a4b1f", "#c99f74"),
    ("#5b6670", "#b1bac4"),
)
_DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.6)), (0, (1.4, 1.4)), (0, (6, 1.5, 1.4, 1.5)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
_DARK = {**dict(COLOURS), INK: "#e7e9ec", MUTED: "#a0a6af", HAIR: "#3a3f46", PAPER: "#16181c"}
_DARK_PATTERN = re.compile("|".join(_DARK))

WIDTH, HEIGHT = 4.0, 2.7
TEXT, SMALL, TITLE = 9.0, 8.0, 10.5
_LONGEST_LABEL = 18
_FONT = "'DejaVu Sans'"
_SYSTEM_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class LineStyle:
    """How an arm is drawn."""

    colour: str
    dark: str
    dash: Any
    marker: str


@dataclass(frozen=True)
class Drawing:
    """One figure: its file name without extension, its caption and its alternative text."""

    name: str
    title: str
    caption: str
    alt: str
    build: "Callable[[], Figure]"


@dataclass(frozen=True)
class Rendered:
    """A drawing as SVG (light, and dark for a dark page) and as PNG on white."""

    drawing: Drawing
    light: str
    dark: str
    png: bytes

    @property
    def file(self) -> str:
        """The light SVG on a white background, as a file of its own."""
        head, tag, rest = self.light.partition("<defs>")
        return f'{head}<rect width="100%" height="100%" fill="{PAPER}"/>\n {tag}{rest}'


def nth_line_style(index: int) -> LineStyle:
    """The line style of the arm at `index` in the order of the config. The first 32 differ in colour or dash."""
    colour, dark = COLOURS[index % len(COLOURS)]
    dash = _DASHES[(index + index // len(COLOURS)) % len(_DASHES)]
    return LineStyle(colour, dark, dash, _MARKERS[index % len(_MARKERS)])


def label(text: str, longest: int = _LONGEST_LABEL) -> str:
    """`text` on one line of visible characters; a long one loses its middle, since variants differ at the end."""
    shown = visible(text, newline=" ")
    if len(shown) <= longest:
        return shown
    length = longest - 1
    return shown[: length - length // 2] + "…" + shown[len(shown) - length // 2 :]


def render(drawing: Drawing) -> Rendered:
    """`drawing` as SVG and PNG. The dark SVG is the light one with other colours, so both show the same."""
    import matplotlib

    settings: Any = {
        "svg.hashsalt": "tailkeep",
        "svg.fonttype": "none",
        "font.family": ["DejaVu Sans"],
        "font.size": TEXT,
        "text.usetex": False,
        "text.parse_math": False,
        "axes.unicode_minus": True,
    }
    with matplotlib.rc_context(settings), _missing_glyphs_allowed():
        figure = drawing.build()
        # The layout is solved once; solving it again for each format would double the time.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        vector, pixels = io.BytesIO(), io.BytesIO()
        empty = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(vector, format="svg", transparent=True, metadata=empty)
        figure.savefig(pixels, format="png", dpi=160, facecolor=PAPER, metadata={"Software": None})
    light = _with_system_fonts(vector.getvalue().decode("utf-8"))
    dark = _DARK_PATTERN.sub(lambda match: _DARK[match[0]], light)
    return Rendered(drawing, light, dark, pixels.getvalue())


def canvas(
    title: str, *, rows: int = 1, columns: int = 1, width: float = WIDTH, height: float = HEIGHT
) -> "tuple[Figure, list[Axes]]":
    """An empty figure with a title and `rows` x `columns` panels in reading order."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(label(title, 46), x=0.012, ha="left", fontsize=TITLE, fontweight="bold", color=INK)
    axes = [figure.add_subplot(rows, columns, n + 1) for n in range(rows * columns)]
    for panel in axes:
        panel.patch.set_visible(False)
        panel.tick_params(colors=MUTED, labelsize=SMALL, length=3, width=0.6)
        for side, spine in panel.spines.items():
            spine.set_visible(side in {"left", "bottom"})
            spine.set_color(HAIR)
        panel.set_axisbelow(True)
    return figure, axes


def label_axes(panel: "Axes", *, x: str = "", y: str = "") -> None:
    """Name the axes."""
    panel.set_xlabel(x, color=MUTED, fontsize=SMALL)
    panel.set_ylabel(y, color=MUTED, fontsize=SMALL)


def label_ends(panel: "Axes", ends: list[tuple[float, str, str]]) -> None:
    """Write each (y, text, colour) beside the right edge at its height, moved apart where labels would touch.

    Call it after the limits are set.
    """
    panel.get_ylim()  # reading the limits makes matplotlib compute the automatic ones
    top = panel.transAxes.inverted()
    fractions = [float(top.transform(panel.transData.transform((0, y)))[1]) for y, _, _ in ends]
    # One line of text, as a share of the panel's height of about three quarters of the figure's.
    gap = min(1.3 * SMALL / (72 * HEIGHT * 0.72), 1 / max(1, len(ends) - 1))
    for index, y in zip(sorted(range(len(ends)), key=lambda n: fractions[n]), spread(fractions, gap), strict=True):
        _, text, colour = ends[index]
        panel.text(1.02, y, label(text), color=colour, fontsize=SMALL, va="center", transform=panel.transAxes)


def spread(heights: list[float], gap: float) -> list[float]:
    """`heights`, sorted and pushed apart to at least `gap`, each inside 0..1 as far as there is room."""
    placed: list[float] = []
    for height in sorted(min(1.0, max(0.0, h)) for h in heights):
        placed.append(max(height, placed[-1] + gap) if placed else height)
    for n in range(len(placed) - 1, -1, -1):
        ceiling = 1.0 if n == len(placed) - 1 else placed[n + 1] - gap
        placed[n] = min(placed[n], ceiling)
    return placed


def draw_legend(panel: "Axes", lines: list[tuple[str, str, float]], *, x: float, ha: str) -> None:
    """Write (text, colour, opacity) one under another from the top of `panel`: a legend without a box.

    The text of a pale line stays legible: its opacity is at least 0.7.
    """
    for n, (text, colour, opacity) in enumerate(lines):
        panel.text(
            x, 0.98 - 0.105 * n, text, color=colour, alpha=max(opacity, 0.7), fontsize=SMALL, ha=ha, va="top",
            transform=panel.transAxes,
        )  # fmt: skip


def set_decimal_ticks(panel: "Axes") -> None:
    """Numbers such as 0.01 or 200 on a logarithmic axis, where matplotlib would write powers of ten.

    Below two decades the ticks at 2 and 5 times a power of ten are added.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = panel.get_ylim()
    if high < 100 * low:
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if math.isfinite(value) else ""))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _with_system_fonts(svg: str) -> str:
    return svg.replace(_FONT, _SYSTEM_FONTS)


@contextmanager
def _missing_glyphs_allowed() -> Iterator[None]:
    # Letters that the PNG's font lacks are drawn as boxes; the SVG uses the fonts of the reader's system.
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support", category=UserWarning)
        yield
