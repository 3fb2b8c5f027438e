"""Real images of an arm: those to train on and the held-out ones, from scikit-learn or from idx files, MNIST's format.

Rule: an idx file whose content is not exactly what its header says is an error that names the file.
"""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from tailkeep.errors import InputError
from tailkeep.lab.generative.config import Digits, Idx, IdxFiles
from tailkeep.lab.toy_data import ArrayData
from tailkeep.optional import require

Bytes = NDArray[np.uint8]

_BLOCK = 1 << 20
_BYTES = 0x08
"""The third byte of the magic number, for unsigned bytes. The fourth byte is the number of dimensions."""


def read_idx(path: Path, *, dimensions: int) -> Bytes:
    """Read the array of an idx file of unsigned bytes, compressed if its name ends in `.gz`.

    Args:
        path: the file.
        dimensions: 3 for images (n, height, width), 1 for labels (n,).

    Raises:
        InputError: the file is not readable, or its magic number or its size is wrong.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read_array(file, path, dimensions)
    except (EOFError, zlib.error):
        raise InputError(f"{path} is truncated: its compressed data end too early. Download it again.") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}. Check the path and the file.") from None


def _read_array(file: BinaryIO | gzip.GzipFile, path: Path, dimensions: int) -> Bytes:
    magic = file.read(4)
    expected = bytes((0, 0, _BYTES, dimensions))
    if magic != expected:
        kind = "images" if dimensions == 3 else "labels"
        raise InputError(
            f"{path}: an idx file of {kind} begins with {expected.hex()}, got {magic.hex() or 'nothing'}. "
            "Check that data.images and data.labels are not swapped and that a compressed file is called .gz."
        )
    header = file.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise InputError(f"{path} is truncated: it ends within its header. Download it again.")
    shape = struct.unpack(f">{dimensions}I", header)
    size = math.prod(shape)
    # Block by block, since a single read would set aside what the header says.
    content = bytearray()
    while len(content) <= size and (block := file.read(_BLOCK)):
        content += block
    if len(content) < size:
        raise InputError(
            f"{path} is truncated: its header says {size:,} bytes ({' x '.join(map(str, shape))}), "
            f"got {len(content):,}. Download it again."
        )
    if len(content) > size:
        raise InputError(f"{path} has more than the {size:,} bytes that its header says. Download it again.")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


@dataclass(frozen=True)
class Images(ArrayData):
    """Grey images `values` (n, height, width), 0 black to 255 white: 8 bits per pixel in memory and on disk."""

    files: ClassVar[tuple[str, ...]] = ("images.npy",)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        _, height, width = self.values.shape
        return height, width


@dataclass(frozen=True)
class RealImages:
    """Images with a label each: those to train on, and the held-out ones."""

    train: Images
    labels: Bytes
    held_out: Images
    held_out_labels: Bytes

    @property
    def classes(self) -> int:
        """The number of classes; labels count from 0."""
        return 1 + int(max(self.labels.max(), self.held_out_labels.max()))


def read_images(data: Digits | Idx) -> RealImages:
    """Read the real images that `data` names.

    Raises:
        InputError: files that are not readable or do not fit together, or too few images.
        MissingPackageError: scikit-learn, which brings the digits, is not installed.
    """
    images, labels = _digits() if isinstance(data, Digits) else _read_pair(data, "data")
    if isinstance(data, Idx) and data.test is not None:
        test_images, test_labels = _read_pair(data.test, "data.test")
        real = RealImages(Images(images), labels, Images(test_images), test_labels)
    else:
        split = len(images) - (data.held_out or 0)
        if split < 1:
            raise InputError(
                f"data.held_out must be less than the number of images, {len(images)}, got {data.held_out}. "
                "Hold out fewer or take more."
            )
        real = RealImages(Images(images[:split]), labels[:split], Images(images[split:]), labels[split:])
    _check_sizes(real)
    return real


def _digits() -> tuple[Bytes, Bytes]:
    digits = require("sklearn.datasets", extra="images").load_digits()
    return np.round(digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.uint8)


def _read_pair(files: IdxFiles, key: str) -> tuple[Bytes, Bytes]:
    images, labels = read_idx(files.images, dimensions=3), read_idx(files.labels, dimensions=1)
    if files.take is None and len(images) != len(labels):
        raise InputError(
            f"{files.images} has {len(images):,} images and {files.labels} {len(labels):,} labels. "
            f"Give files of one data set, or set {key}.take to use the first images and labels only."
        )
    count = files.take or len(images)
    fewer = min(len(images), len(labels))
    if count > fewer:
        raise InputError(f"{key}.take must be at most {fewer:,}, the number of labelled images, got {count:,}.")
    if count == 0:
        raise InputError(f"{files.images} has no images. Give a file with some.")
    return images[:count], labels[:count]


def _check_sizes(real: RealImages) -> None:
    height, width = real.train.size
    if height % 4 or width % 4 or min(height, width) < 4:
        raise InputError(
            f"the network halves images twice, so their sides must be multiples of 4, got {height} x {width} pixels. "
            "Pad or crop the images."
        )
    if real.held_out.size != real.train.size:
        raise InputError(
            f"the images of data.test have {real.held_out.size} pixels and those to train on {real.train.size}. "
            "Give images of one size."
        )
