"""How sure a number is: intervals over seeds and over items, and the slope of a curve.

Rule: a value that is not finite is never skipped; it makes the result NaN, so that a failed seed shows.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


class Interval(NamedTuple):
    """A mean and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """The mean of `values` (n,) with Student's t interval, mean ± t_{n-1} s / sqrt(n).

    One value has a mean and NaN bounds. A NaN or infinite value makes all three NaN.

    Raises:
        ValueError: `values` is empty, or `level` is not between 0 and 1.
    """
    sample = np.asarray(values, dtype=np.float64).ravel()
    require_level(level)
    if sample.size == 0:
        raise ValueError("an interval over no values. Give at least one value.")
    if not np.isfinite(sample).all():
        return Interval(math.nan, math.nan, math.nan)
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(mean, math.nan, math.nan)
    error = float(sample.std(ddof=1)) / math.sqrt(sample.size)
    half = float(stats.t.ppf((1 + level) / 2, sample.size - 1)) * error
    return Interval(mean, mean - half, mean + half)


def binomial_interval(successes: float, trials: int, *, level: float = 0.95) -> Interval:
    """The share `successes / trials` with Wilson's score interval (Wilson 1927).

    With z the normal quantile and p the share, the bounds are (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n).
    No trials give NaN. `successes` may be fractional: a tie in a two-way question counts half.

    Raises:
        ValueError: `successes` is not between 0 and `trials`, or `level` not between 0 and 1.
    """
    require_level(level)
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials. Give 0 <= successes <= trials.")
    if trials == 0:
        return Interval(math.nan, math.nan, math.nan)
    share = successes / trials
    z = float(stats.norm.ppf((1 + level) / 2))
    shrink = 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / shrink
    half = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / shrink
    # At 0 and 1 a bound equals the share exactly; rounding may not put it on the other side.
    return Interval(share, min(centre - half, share), max(centre + half, share))


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value corrected for the number of tests (Holm 1979): rejecting those up to a keeps all errors below a."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    found, highest = [0.0] * len(p_values), 0.0
    for done, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - done) * p_values[place]))
        found[place] = highest
    return found


def slope(x: ArrayLike, y: ArrayLike) -> float:
    """The least-squares slope of `y` (n,) on `x` (n,), in units of y per unit of x.

    NaN when fewer than two distinct x are given, or a value is not finite.

    Raises:
        ValueError: the lengths differ.
    """
    across = np.asarray(x, dtype=np.float64).ravel()
    up = np.asarray(y, dtype=np.float64).ravel()
    if across.size != up.size:
        raise ValueError(f"{across.size} x and {up.size} y. Give one y for each x.")
    if across.size < 2 or not (np.isfinite(across).all() and np.isfinite(up).all()):
        return math.nan
    centred = across - across.mean()
    spread = float(centred @ centred)
    return float(centred @ up) / spread if spread > 0 else math.nan


def require_level(level: float) -> None:
    """Refuse a confidence level that is none.

    Raises:
        ValueError: `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level is {level}. Give a share between 0 and 1, such as 0.95.")
