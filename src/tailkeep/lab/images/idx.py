"""idx files, the format of MNIST: a magic number, big-endian sizes, then bytes.

Rule: a file that is not exactly what its header says is refused by name.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tailkeep.errors import InputError

_BYTES = 0x08
"""The third byte of the magic number: unsigned bytes. The fourth is the number of dimensions."""


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """The array in an idx file of unsigned bytes, plain or, if its name ends in `.gz`, compressed.

    Args:
        path: the file.
        dimensions: 3 for images (n, height, width), 1 for labels (n,).

    Raises:
        InputError: it cannot be read, its magic number is another, or its size is not what its header says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(file, path, dimensions)
    except (EOFError, zlib.error):
        raise InputError(f"{path} is cut short: its compressed data ends too early. Download it again.") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}. Check the path and the file.") from None


def _read(file: BinaryIO | gzip.GzipFile, path: Path, dimensions: int) -> NDArray[np.uint8]:
    magic = file.read(4)
    expected = bytes((0, 0, _BYTES, dimensions))
    if magic != expected:
        what = "images" if dimensions == 3 else "labels"
        raise InputError(
            f"{path} begins with {magic.hex() or 'nothing'}, an idx file of {what} with {expected.hex()}. "
            "Check that data.images and data.labels are not mistaken for each other, and that a .gz file is called so."
        )
    header = file.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise InputError(f"{path} is cut short: it ends within its header. Download it again.")
    shape = struct.unpack(f">{dimensions}I", header)
    size = math.prod(shape)
    content = file.read(size)
    if len(content) < size:
        raise InputError(
            f"{path} is cut short: its header says {size:,} bytes ({' x '.join(map(str, shape))}), "
            f"{len(content):,} are there. Download it again."
        )
    if file.read(1):
        raise InputError(f"{path} holds more than the {size:,} bytes that its header says. Download it again.")
    # A copy, since torch wants arrays that can be written to.
    return np.frombuffer(content, dtype=np.uint8).reshape(shape).copy()
