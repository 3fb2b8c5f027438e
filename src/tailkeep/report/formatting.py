"""Numbers and names as text, for the page and the terminal alike. Rule: a missing number is a dash, never `nan`."""

import math

from rich.text import Text

from tailkeep.metrics import Interval
from tailkeep.report.lab.stats import FailureSummary
from tailkeep.report.svg import short_exponent
from tailkeep.runs import redact
from tailkeep.sanitize import visible

DASH = "–"
MINUS = "\N{MINUS SIGN}"
EQUAL_SEEDS = "equal in all seeds"


def number(value: float, *, digits: int = 3, signed: bool = False) -> str:
    """`value` with `digits` significant digits, such as `0.0123`, `2.18`, `31,400` or `1.2e8`."""
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else MINUS + "∞"
    sign = MINUS if value < 0 else "+" if signed and value > 0 else ""
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e7 or size < 1e-4:
        return sign + short_exponent(f"{size:.{digits - 1}e}")
    places = max(0, digits - 1 - math.floor(math.log10(size)))
    return sign + f"{size:,.{places}f}"


def mean(value: Interval, *, signed: bool = False) -> str:
    """The mean, with the decimals of its bounds; without bounds a signed one, a difference, has those of `short`."""
    places = _places(value)
    if places is None:
        return number(
            value.mean, digits=2 if signed and math.isnan(value.low) and abs(value.mean) < 1 else 3, signed=signed
        )
    return _fixed(value.mean, places, signed)


def interval(value: Interval, *, signed: bool = False) -> str:
    """The bounds as `2.10 to 2.26`, with as many decimals as the width needs; empty where there are none.

    Equal bounds are no interval: every seed has the same value.
    """
    if math.isnan(value.low) or math.isnan(value.high):
        return ""
    if value.low == value.high:
        return EQUAL_SEEDS
    places = _places(value)
    low, high = (
        number(bound, signed=signed) if places is None else _fixed(bound, places, signed)
        for bound in (value.low, value.high)
    )
    return f"{low} to {high}"


def percent(share: float) -> str:
    """A share such as `16 %`; what is not quite none or all is `< 1 %` or `> 99 %`."""
    if 0 < share <= 0.005 or 0.995 <= share < 1:
        return "< 1 %" if share < 0.5 else "> 99 %"
    return f"{100 * share:.0f} %"


def counted(number: float, noun: str) -> str:
    """Such as `1 generation` or `1,200 documents`."""
    return f"1 {noun}" if number == 1 else f"{number:,.10g} {noun}s"


def p_value(value: float) -> str:
    """A p-value with two digits, or `< 0.001`."""
    return "< 0.001" if value < 0.001 else number(value, digits=2)


def has_mean(value: Interval) -> bool:
    """Whether there is a mean to show."""
    return not math.isnan(value.mean)


def short(value: float) -> str:
    """`value` beside a line in a figure: 0.67, 1.40, 14.3, 0.012."""
    return number(value, digits=2 if abs(value) < 1 else 3)


def _places(value: Interval) -> int | None:
    """Decimals for one digit of the half-width, two if it starts with 1 or 2; None where the bounds do not fix them.

    At least two below 10, and one below 100.
    """
    half = (value.high - value.low) / 2
    largest = max(abs(value.low), abs(value.high))
    if not half >= 1e-6 or largest >= 1e7:
        return None
    exponent = math.floor(math.log10(half))
    least = 2 if largest < 10 else 1 if largest < 100 else 0
    return max(least, (1 if half / 10**exponent < 3 else 0) - exponent)


def _fixed(value: float, places: int, signed: bool) -> str:
    text = f"{abs(value):,.{places}f}"
    zero = not text.strip("0.,")
    return text if zero else (MINUS if value < 0 else "+" if signed else "") + text


def count(value: float) -> str:
    """A mean of counts: whole where it is whole, such as `262,144`."""
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else number(value, digits=4)


def failure(summary: FailureSummary) -> str:
    """The median time to failure: `3.4`, `> 5` when it was never reached, a dash where it is undefined."""
    if math.isnan(summary.time):
        return DASH
    text = f"{summary.time:.1f}".removesuffix(".0")
    return f"> {text}" if summary.censored else text


def time_bounds(bounds: Interval) -> str:
    """The bounds of a time to failure as `1.2 to 3.4` or `2.1 to ∞`; empty where there are none, or no seed failed."""
    if not math.isfinite(bounds.low) or math.isnan(bounds.high):
        return ""
    low, high = (f"{bound:.1f}".removesuffix(".0") if math.isfinite(bound) else "∞" for bound in bounds[1:])
    return f"{low} to {high}"


def terminal_text(text: str, style: str = "") -> Text:
    """`text` on one line of visible characters, without credentials and never interpreted as markup."""
    return Text(visible(redact(text), newline=" "), style=style)


def seeds(count: int) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} seed" if count == 1 else f"{count} seeds"
