"""64-bit hashes of words and of runs of words, computed for many at once.

Rule: a hash is a function of the bytes alone, the same on every machine and in every process.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_STEP = np.uint64(0xD6E8_FEB8_6659_FD93)
_EIGHT = 8
_LONG = 64
_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(_EIGHT + 1)], np.uint64)
_SLOT_BITS = 20
SLOTS = 1 << _SLOT_BITS


def hash_spans(data: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Hashes:
    """A hash (W,) of each span [start, end) of `data`.

    Eight bytes at a time are read as one number and mixed into what came before; the few spans that are longer than
    `_LONG` bytes are hashed by themselves. Two different words agree with a probability of about 2^-64, so among V
    words some pair does with about V^2 / 2^65.
    """
    padded = data + bytes(_EIGHT)
    # The eight bytes from each place on: places overlap, so this is a view and no copy.
    eights = np.ndarray(len(data) + 1, "<u8", padded, strides=(1,))
    lengths = ends - starts
    found = _absorbed(mixed(lengths.astype(np.uint64)), eights[starts], lengths)
    longer = np.flatnonzero(lengths > _EIGHT)
    for offset in range(_EIGHT, _LONG, _EIGHT):
        found[longer] = _absorbed(found[longer], eights[starts[longer] + offset], lengths[longer] - offset)
        longer = longer[lengths[longer] > offset + _EIGHT]
    for number in longer.tolist():
        digest = hashlib.blake2b(data[starts[number] : ends[number]], digest_size=8).digest()
        found[number] = int.from_bytes(digest, "little")
    return found


def _absorbed(hashes: Hashes, eights: Hashes, lengths: NDArray[np.int64]) -> Hashes:
    """`hashes` with as many first bytes of `eights` mixed in as `lengths` says, all of the same shape."""
    return mixed(hashes * _STEP + (eights & _FIRST_BYTES[np.minimum(lengths, _EIGHT)]))


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
