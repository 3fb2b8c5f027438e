"""Sketches in bounded memory: how many items are distinct, and which are frequent.

Rule: merging two sketches is valid within the error that the merged sketch states.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tailkeep.data.hashing import SLOTS, Hashes, slots_of, sort_hashes

_BITS = 14
_REGISTERS = 1 << _BITS
_RANKS = 64
_SIGNIFICAND = np.uint64(52)
_EXPONENT_BIAS = np.uint64(1023)
_SMALL = 1 << 12

DISTINCT_ERROR = 1.04 / math.sqrt(_REGISTERS)
"""The relative standard error of a count of distinct hashes: 0.8 %."""


class DistinctCounter:
    """Counts distinct hashes in 16,384 registers (HyperLogLog, Flajolet et al. 2007)."""

    def __init__(self) -> None:
        self._registers = np.zeros(_REGISTERS, np.uint64)

    def add(self, hashes: Hashes) -> None:
        """Add `hashes` (N,), which may repeat."""
        # A guard bit ends the run of zeros at the end of the hash; the float's exponent gives its length.
        rest = (hashes << np.uint64(_BITS)) | np.uint64(1 << (_BITS - 1))
        # A rank that is not above the lowest register changes nothing; soon most ranks are not.
        if lowest := int(self._registers.min()):
            higher = np.flatnonzero(rest < np.uint64(1 << (_RANKS - lowest)))
            hashes, rest = hashes[higher], rest[higher]
        highest = (rest.astype(np.float64).view(np.uint64) >> _SIGNIFICAND) - _EXPONENT_BIAS
        ranks = np.uint64(_RANKS) - np.minimum(highest, np.uint64(_RANKS - 1))
        np.maximum.at(self._registers, (hashes >> np.uint64(64 - _BITS)).astype(np.int64), ranks)

    def registers(self) -> NDArray[np.int64]:
        """The highest rank in each register (16384,); two sketches merge by their maximum."""
        return self._registers.astype(np.int64)


def count_distinct(registers: NDArray[np.int64]) -> float:
    """The estimated number of distinct hashes behind `registers`; Ertl 2017 (arXiv 1702.01284), algorithm 6."""
    size, zeros_at_most = len(registers), 64 - _BITS
    counts = np.bincount(registers, minlength=zeros_at_most + 2)
    if counts[0] == size:
        return 0.0
    total = size * _tau(1 - counts[zeros_at_most + 1] / size)
    for rank in range(zeros_at_most, 0, -1):
        total = 0.5 * (total + counts[rank])
    return float(size**2 / (2 * math.log(2)) / (total + size * _sigma(counts[0] / size)))


def _sigma(x: float) -> float:
    power, weight, total, previous = x, 1.0, x, -1.0
    while total != previous and x < 1:
        power, previous = power * power, total
        total += power * weight
        weight *= 2
    return total


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    weight, total, previous = 1.0, 1 - x, -1.0
    while total != previous:
        x, previous, weight = math.sqrt(x), total, weight / 2
        total -= (1 - x) ** 2 * weight
    return total / 3


TextsOf = Callable[[NDArray[np.int64]], list[bytes]]
"""Indices of items (K,) -> the text of each, in UTF-8."""


@dataclass(eq=False)
class FrequentItems:
    """The most frequent of any number of items (Misra and Gries 1982; merged as in Agarwal et al. 2012).

    A count is at most `error` too low and never too high; `error` is at most total / (size + 1), and 0 as long as at
    most `size` distinct items were added.

    Attributes:
        size: the most items in the sketch.
        hashes, counts: those of the items in it, in ascending order of the hash.
        texts: the text of each by hash.
    """

    size: int
    hashes: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    texts: dict[int, bytes] = field(default_factory=dict)
    error: int = 0

    def add(self, hashes: Hashes, counts: NDArray[np.int64], texts_of: TextsOf) -> None:
        """Add items with distinct `hashes` (V,), each `counts` (V,) times; `texts_of` gives the texts of some."""
        floor, likely = self._likely(hashes, counts)
        hashes, counts = hashes[likely], counts[likely]
        both = np.concatenate([self.hashes, hashes])
        order, firsts = sort_hashes(both)
        summed = np.add.reduceat(np.concatenate([self.counts, counts])[order], firsts) if len(firsts) else self.counts
        indices = order[firsts]
        if len(indices) > self.size or floor:
            threshold = max(_largest(summed, self.size + 1) if len(indices) > self.size else 0, floor)
            self.error += threshold
            above = np.flatnonzero(summed > threshold)
            summed, indices = summed[above] - threshold, indices[above]
        new = indices[indices >= len(self.hashes)]
        # The texts of most new items are here, since they were in the sketch before.
        unread = np.fromiter((hash_ not in self.texts for hash_ in both[new].tolist()), np.bool_, len(new))
        new, likely = new[unread], likely[new[unread] - len(self.hashes)]
        self.hashes, self.counts = both[indices], summed
        if len(self.texts) + len(new) > 4 * self.size:
            self.texts = {hash_: self.texts[hash_] for hash_ in self.hashes.tolist() if hash_ in self.texts}
        self.texts.update(zip(both[new].tolist(), texts_of(likely), strict=True))

    def _likely(self, hashes: Hashes, counts: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
        """A count that more than `size` items reach, or 0, and the indices of the items that may exceed it.

        Items already in the sketch may exceed it, and a few more that share a slot with one are included.
        """
        if len(hashes) <= self.size:
            return 0, np.arange(len(hashes))
        floor = _largest(counts, self.size + 1)
        is_taken = np.zeros(SLOTS, np.bool_)
        is_taken[slots_of(self.hashes)] = True
        return floor, np.flatnonzero((counts > floor) | is_taken[slots_of(hashes)])

    def merge(self, other: "FrequentItems") -> None:
        """Add all items of `other`."""
        self.add(other.hashes, other.counts, lambda items: [other.texts[key] for key in other.hashes[items].tolist()])
        self.error += other.error

    def read(self) -> list[str]:
        """The text of each item, in the order of `hashes`."""
        return [self.texts[hash_].decode("utf-8", "replace") for hash_ in self.hashes.tolist()]

    def items(self) -> list[tuple[int, str, int]]:
        """(hash, text, count) of each item by descending count, then by text."""
        rows = zip(self.hashes.tolist(), self.read(), self.counts.tolist(), strict=True)
        return sorted(rows, key=lambda item: (-item[2], item[1], item[0]))


def _largest(counts: NDArray[np.int64], rank: int) -> int:
    """The `rank`-th largest of `counts` (N,), which are not negative."""
    # Most counts are small: their histogram takes a fifth of the time of a partition.
    at_least = np.cumsum(np.bincount(np.minimum(counts, _SMALL))[::-1])[::-1]
    count = int(np.flatnonzero(at_least >= rank)[-1])
    return count if count < _SMALL else int(np.partition(counts, -rank)[-rank])
