"""How much of the tail a sample keeps, by how rare a type is in the real text.

Rule: a share is read beside what an equally large real sample would cover, since any sample misses rare types.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

FIRSTS = (1, 2, 4, 11, 101)
"""Where the bands begin: types that occur once, 2-3 times, 4-10, 11-100 and more than 100 times."""


class CoverageBand(NamedTuple):
    """Types that occur `first` to `last` times (None: and more) in the real text.

    `types` counts them, `covered` is the share of them that occur in the sample, and `expected` the share that would
    occur in as many items drawn from the real text. Both are NaN in a band without types.
    """

    first: int
    last: int | None
    types: int
    covered: float
    expected: float

    @property
    def name(self) -> str:
        """`1`, `2_3`, `over_100`."""
        if self.last is None:
            return f"over_{self.first - 1}"
        return str(self.first) if self.first == self.last else f"{self.first}_{self.last}"


def band_coverage(real: ArrayLike, sample: ArrayLike, *, firsts: Sequence[int] = FIRSTS) -> list[CoverageBand]:
    """The bands of the `real` counts by type (v,), and what of each the `sample` counts (v,) hold.

    With N real items and n in the sample, a type that occurs c times in the real text is expected in n of the N items,
    drawn without replacement, with the probability 1 - C(N - c, n) / C(N, n). That holds for items that are spread
    evenly: words that come in bursts, few documents holding them all, are met a little less often.

    Args:
        firsts: where the bands begin, ascending.

    Raises:
        ValueError: the shapes differ, a count is negative or not whole, the sample has more items than the real text,
            or `firsts` do not increase from 1 or more.
    """
    there, found = _counts(real), _counts(sample)
    if there.shape != found.shape:
        raise ValueError(f"counts of shapes {there.shape} and {found.shape}. Give both the same types.")
    if found.sum() > there.sum():
        raise ValueError(f"a sample of {found.sum()} items of {there.sum()}. Give at most as many as the real text.")
    if list(firsts) != sorted(set(firsts)) or not firsts or firsts[0] < 1:
        raise ValueError(f"bands that begin at {list(firsts)}. Give whole numbers from 1 upward, in order.")
    chances = _chances(there, int(found.sum()))
    lasts = [*(following - 1 for following in firsts[1:]), None]
    return [_band(first, last, there, found, chances) for first, last in zip(firsts, lasts, strict=True)]


def _band(
    first: int, last: int | None, there: NDArray[np.int64], found: NDArray[np.int64], chances: NDArray[np.float64]
) -> CoverageBand:
    inside = there >= first if last is None else (there >= first) & (there <= last)
    types = int(inside.sum())
    if not types:
        return CoverageBand(first, last, 0, float("nan"), float("nan"))
    return CoverageBand(first, last, types, float((found[inside] > 0).mean()), float(chances[inside].mean()))


def _chances(there: NDArray[np.int64], drawn: int) -> NDArray[np.float64]:
    total = int(there.sum())
    others = total - there
    # Fewer other items than are drawn: the type cannot be missed.
    missable = others >= drawn
    left = np.where(missable, others - drawn, 0)
    log_missed = gammaln(others + 1) - gammaln(left + 1) - gammaln(total + 1) + gammaln(total - drawn + 1)
    return np.asarray(np.where(missable, -np.expm1(np.minimum(log_missed, 0.0)), 1.0))


def _counts(values: ArrayLike) -> NDArray[np.int64]:
    counts = np.asarray(values)
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ValueError("no counts by type. Give whole numbers from 0 upward, one a type.")
    return counts.astype(np.int64)
