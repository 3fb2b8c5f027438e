"""64-bit hashes of words and of runs of words, computed for many at once.

Rule: a hash is a function of the bytes alone, the same on every machine and in every process.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_BASE = 0x9E6C_63D0_876A_9A47
_STEP = np.uint64(0xD6E8_FEB8_6659_FD93)
_WORD = (1 << 64) - 1
_BLOCK = 1 << 15
_SLOT_BITS = 20
SLOTS = 1 << _SLOT_BITS


def hash_spans(data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Hashes:
    """A hash (W,) of each span [start, end) of `data` (N,) bytes.

    A polynomial in an odd base modulo 2^64, read off running sums: no span is looked at by itself. Two different words
    agree with a probability of about 2^-64, so among V words some pair does with about V^2 / 2^65.
    """
    powers, inverses = _powers(1 << max(len(data), 1).bit_length())
    sums = np.zeros(len(data) + 1, np.uint64)
    # In blocks that stay in a processor's cache, since all of it at once is four times the traffic to memory.
    for start in range(0, len(data), _BLOCK):
        part = slice(start, min(start + _BLOCK, len(data)))
        terms = (data[part].astype(np.uint64) + np.uint64(1)) * powers[part]
        terms[:1] += sums[start]
        np.cumsum(terms, out=sums[part.start + 1 : part.stop + 1])
    return mixed((sums[ends] - sums[starts]) * inverses[starts])


def mixed(values: Hashes) -> Hashes:
    """`values` (any shape) with every bit spread over all others; the finaliser of SplitMix64, one to one."""
    found = values ^ (values >> np.uint64(30))
    found *= np.uint64(0xBF58_476D_1CE4_E5B9)
    found ^= found >> np.uint64(27)
    found *= np.uint64(0x94D0_49BB_1331_11EB)
    found ^= found >> np.uint64(31)
    return found


def extended(grams: Hashes, following: Hashes) -> Hashes:
    """The hashes of n-grams, each prolonged by the word with the hash in `following`, of the same shape."""
    return grams * _STEP + following


def buckets_of(hashes: Hashes, buckets: int) -> NDArray[np.int64]:
    """The bucket of each hash, from 0 to `buckets` - 1 (at most 2^32)."""
    return (((hashes >> np.uint64(32)) * np.uint64(buckets)) >> np.uint64(32)).astype(np.int64)


def slots_of(hashes: Hashes) -> NDArray[np.int32]:
    """The slot of each hash, from 0 to `SLOTS` - 1: few enough for tables that a processor's cache holds."""
    return (hashes >> np.uint64(64 - _SLOT_BITS)).astype(np.int32)


@cache
def _powers(length: int) -> tuple[Hashes, Hashes]:
    """base^i and base^-i modulo 2^64 for i below `length`, which is a power of two."""
    return _geometric(_BASE, length), _geometric(pow(_BASE, -1, 1 << 64), length)


def _geometric(base: int, length: int) -> Hashes:
    found = np.ones(length, np.uint64)
    done = 1
    while done < length:
        found[done : 2 * done] = found[:done] * np.uint64(pow(base, done, 1 << 64) & _WORD)
        done *= 2
    return found
