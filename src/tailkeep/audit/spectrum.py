"""How many types occur how often: all that concentration needs to know of any number of types.

Rule: a spectrum has one row for each frequency that occurs, so it fits into memory whatever the corpus.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tailkeep.metrics import zipf_slope

_SLOPE_LAST = 1000


@dataclass
class Spectrum:
    """`types` maps a frequency to the number of types that have it."""

    types: Counter[int] = field(default_factory=Counter)

    def add(self, counts: NDArray[np.int64]) -> None:
        """Count types with `counts` (V,)."""
        frequencies, numbers = np.unique(counts, return_counts=True)
        self.types.update(dict(zip(frequencies.tolist(), numbers.tolist(), strict=True)))

    def figures(self) -> dict[str, float]:
        """What the words of a whole corpus say of concentration; all but the slope depend on its size."""
        if not self.types:
            return {}
        frequencies = np.array(sorted(self.types, reverse=True), np.float64)
        numbers = np.array([self.types[int(value)] for value in frequencies], np.float64)
        items, types = float(frequencies @ numbers), float(numbers.sum())
        return {
            "types": types,
            "entropy": float(np.log(items) - (numbers * frequencies) @ np.log(frequencies) / items),
            "gini": _gini(frequencies[::-1], numbers[::-1]),
            "top_100_share": _top(frequencies, numbers, 100) / items,
            "zipf_slope": zipf_slope(_head(frequencies, numbers, _SLOPE_LAST)),
            "once_share_of_types": self.types[1] / types,
            "unseen_mass": self.types[1] / items,
            "tail_mass": float(sum(value * number for value, number in self.types.items() if value <= _RARE)) / items,
        }

    def curve(self, points: int = 200) -> list[tuple[float, float]]:
        """The Lorenz curve of types, rare ones first: pairs of shares of the types and of their occurrences."""
        frequencies = np.array(sorted(self.types), np.float64)
        numbers = np.array([self.types[int(value)] for value in frequencies], np.float64)
        x, y = np.cumsum(numbers), np.cumsum(numbers * frequencies)
        # Of no types there is no point but the first.
        chosen = np.unique(np.linspace(0, len(x) - 1, min(points, len(x))).astype(int)).tolist()
        return [(0.0, 0.0), *((float(x[i] / x[-1]), float(y[i] / y[-1])) for i in chosen)]

    def ranks(self) -> list[tuple[int, int]]:
        """(rank, frequency) at ranks a quarter of an octave apart."""
        found, rank = [], 0
        wanted = _rank_steps(sum(self.types.values()))
        for frequency in sorted(self.types, reverse=True):
            rank += self.types[frequency]
            while wanted and wanted[0] <= rank:
                found.append((wanted.pop(0), frequency))
        return found


_RARE = 3
"""A word that occurs up to so often counts as tail."""


def _rank_steps(last: int) -> list[int]:
    found = {int(2 ** (step / 4)) for step in range(4 * max(last, 1).bit_length() + 1)}
    return [rank for rank in sorted(found) if rank <= last]


def _gini(frequencies: NDArray[np.float64], numbers: NDArray[np.float64]) -> float:
    """Twice the area between the Lorenz curve and the diagonal, from ascending frequencies."""
    types, items = numbers.sum(), frequencies @ numbers
    y = np.concatenate([[0.0], np.cumsum(frequencies * numbers) / items])
    return float(1 - (numbers / types) @ (y[1:] + y[:-1]))


def _top(frequencies: NDArray[np.float64], numbers: NDArray[np.float64], types: int) -> float:
    before = np.concatenate([[0.0], np.cumsum(numbers)[:-1]])
    return float(frequencies @ np.clip(types - before, 0, numbers))


def _head(frequencies: NDArray[np.float64], numbers: NDArray[np.float64], ranks: int) -> NDArray[np.float64]:
    """The frequencies of the first `ranks` types."""
    rows = int(np.searchsorted(np.cumsum(numbers), ranks)) + 1
    return np.repeat(frequencies[:rows], numbers[:rows].astype(np.int64))[:ranks]


def quantiles_of(histogram: Iterable[int], edges: NDArray[np.float64], shares: Iterable[float]) -> list[float]:
    """The values below which `shares` of a histogram's items lie, straight between the edges (bins + 1,) of a bin."""
    counts = np.array(list(histogram), np.float64)
    total = counts.sum()
    if not total:
        return [float("nan") for _ in shares]
    sums = np.concatenate([[0.0], np.cumsum(counts)]) / total
    rising = np.concatenate([[True], np.diff(sums) > 0])
    return [float(np.interp(share, sums[rising], edges[rising])) for share in shares]
