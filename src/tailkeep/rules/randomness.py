"""Uniform numbers that belong to a position in a document, not to the order in which work is done.

Rule: a number is a function of (seed, document, stream, position) alone; another length or another worker cannot
change it, and neither can another release of numpy, which promises the raw output of its bit generators.
"""

import hashlib
import json

import numpy as np
from numpy.typing import NDArray


def uniforms(seed: int, document_id: str, n: int, stream: str) -> NDArray[np.float64]:
    """The numbers of positions 0 to n - 1, multiples of 2**-53 in [0, 1).

    Philox counts through the positions; its key is the hash of the other three.

    Args:
        stream: what the numbers are for, such as `judge`; streams are independent of each other.
    """
    # JSON separates ("a", "b c") from ("a b", "c"), and escapes a lone surrogate that no encoding accepts.
    name = json.dumps([seed, document_id, stream]).encode()
    key = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")
    raw = np.random.Philox(key=key).random_raw(n)
    return np.asarray(raw >> np.uint64(11), np.float64) * 2.0**-53
