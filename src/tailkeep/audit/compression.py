"""How well consecutive documents compress. Rule: blocks have one size, since a longer text compresses better."""

import zlib
from typing import Literal

import numpy as np
import pyarrow as pa

from tailkeep.audit.counting import Counts

BLOCK = 1 << 17
_LEVELS = {"zlib": 6, "zstd": 3}


class Compressing:
    """Compresses the documents of a shard, a line break between two, block by block."""

    def __init__(self, method: Literal["zlib", "zstd"]) -> None:
        self._codec = None if method == "zlib" else pa.Codec("zstd", compression_level=_LEVELS["zstd"])
        self._waiting = bytearray()
        self._raw = self._packed = 0

    def add(self, raw: bytes) -> None:
        """Take one document."""
        self._waiting += raw + b"\n"
        if len(self._waiting) < BLOCK:
            return
        whole = len(self._waiting) // BLOCK * BLOCK
        for start in range(0, whole, BLOCK):
            block = bytes(self._waiting[start : start + BLOCK])
            self._raw += BLOCK
            self._packed += len(self._pack(block))
        del self._waiting[:whole]

    def counts(self) -> Counts:
        """The bytes of all whole blocks before and after."""
        return {"compressed/before": np.array([self._raw]), "compressed/after": np.array([self._packed])}

    def _pack(self, block: bytes) -> bytes:
        if self._codec is None:
            return zlib.compress(block, _LEVELS["zlib"])
        return bytes(self._codec.compress(block, asbytes=True))
