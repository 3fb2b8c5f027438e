"""The one parameter of temperature scaling (Guo et al., arXiv 1706.04599): p_T(y) is proportional to p(y)^(1/T).

Rule: the temperature is fitted on other tokens than those it is judged on; `cross_fitted` swaps two halves.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

TEMPERATURES = tuple(float(2 ** (step / 2)) for step in range(-4, 5))
"""1/4 to 4 by factors of the square root of 2. The NLL is convex in 1/T, and nearly a parabola in ln T around its
lowest point, which three points of this distance find to within a percent."""


def fitted_temperature(nll: ArrayLike, temperatures: Sequence[float] = TEMPERATURES) -> float:
    """The temperature of the lowest `nll` (k,), by the parabola in ln T through the lowest value and its neighbours.

    The first or last temperature where that is the lowest; NaN if a value is not finite.

    Raises:
        ValueError: the lengths differ, there are fewer than three, or the temperatures are not above 0 and ascending.
    """
    values = np.asarray(nll, dtype=np.float64).ravel()
    if len(values) != len(temperatures) or len(values) < 3:
        raise ValueError(
            f"{len(values)} NLLs at {len(temperatures)} temperatures. Give one for each, of three or more."
        )
    if temperatures[0] <= 0 or any(after <= before for before, after in pairwise(temperatures)):
        raise ValueError(f"the temperatures {list(temperatures)} do not ascend from above 0. Give them in order.")
    if not np.isfinite(values).all():
        return float("nan")
    lowest = int(values.argmin())
    if lowest in (0, len(values) - 1):
        return float(temperatures[lowest])
    x = np.log(np.asarray(temperatures[lowest - 1 : lowest + 2], dtype=np.float64))
    y = values[lowest - 1 : lowest + 2]
    # Divided differences: the slope at the middle point and the curvature of the parabola through all three.
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    curvature = (right - left) / (x[2] - x[0])
    if curvature <= 0:
        return float(temperatures[lowest])
    middle = left + curvature * (x[1] - x[0])
    return float(np.exp(np.clip(x[1] - middle / (2 * curvature), x[0], x[2])))
