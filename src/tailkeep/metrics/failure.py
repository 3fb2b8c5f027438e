"""Time to failure: the number of generations until a metric first crosses a limit (ForTIFAI, arXiv 2509.08972).

Rule: a crossing is interpolated between the two generations around it; without a crossing the time is censored.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Failure:
    """The time at which a metric failed.

    `failed`: it crossed the limit at `time` (generations, fractional). `censored`: it never did, and `time` is the last
    generation observed. `undefined`: it started past the limit or was never recorded, and `time` is NaN.
    """

    time: float
    state: Literal["failed", "censored", "undefined"]


def time_to_failure(
    generations: Sequence[float], values: Sequence[float], *, limit: float, falling: bool = True
) -> Failure:
    """The first time at which `values`, interpolated linearly over `generations`, cross `limit`.

    A value fails below the limit if `falling`, else above it; a value equal to the limit has not failed. Published
    crossing points such as 1.3 generations imply this interpolation. A NaN value counts as not recorded, and with a
    limit of NaN (see `margin_limit`) the failure is undefined.

    Raises:
        ValueError: the lengths differ, or the generations do not increase.
    """
    if len(generations) != len(values):
        raise ValueError(f"{len(generations)} generations and {len(values)} values. Pass one value per generation.")
    if any(later <= earlier for earlier, later in itertools.pairwise(generations)):
        raise ValueError(f"the generations {list(generations)} do not increase. Sort them, each once.")
    sign = 1.0 if falling else -1.0
    # Negative margins are past the limit, whichever way the metric moves.
    margins = [(float(g), sign * (v - limit)) for g, v in zip(generations, values, strict=True) if not math.isnan(v)]
    if not margins or not margins[0][1] >= 0:
        return Failure(math.nan, "undefined")
    for (before, above), (after, below) in itertools.pairwise(margins):
        if below < 0:
            share = 1.0 if math.isinf(above) else above / (above - below)
            return Failure(before + share * (after - before), "failed")
    return Failure(margins[-1][0], "censored")


def margin_limit(start: float, chance: float, *, remaining: float = 0.5) -> float:
    """The score at which a share `remaining` of the initial margin over chance is left: chance + remaining * margin.

    NaN if `start` is not above chance: without a margin there is no failure.
    """
    return chance + remaining * (start - chance) if start > chance else math.nan
