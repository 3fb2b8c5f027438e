"""The real images of a study: what autoencoders train on, and what is held out to measure by."""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from tailkeep.errors import InputError
from tailkeep.lab.generative.config import Digits, Idx, IdxFiles
from tailkeep.lab.protocols import Indices
from tailkeep.optional import require

# idx files, the format of MNIST: a magic number, big-endian sizes, then bytes.
#
# Rule: a file that is not exactly what its header says is refused by name.


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
            return _read_array(file, path, dimensions)
    except (EOFError, zlib.error):
        raise InputError(f"{path} is cut short: its compressed data ends too early. Download it again.") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}. Check the path and the file.") from None


def _read_array(file: BinaryIO | gzip.GzipFile, path: Path, dimensions: int) -> NDArray[np.uint8]:
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


# Grey images as the recursion's data. Rule: 8 bits a pixel, as real ones have, in memory and on disk alike.


Greys = NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """`values` of shape (n, height, width), 0 black to 255 white."""

    values: Greys

    def __len__(self) -> int:
        return len(self.values)

    @property
    def units(self) -> int:
        """One image is one unit."""
        return len(self.values)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        _, height, width = self.values.shape
        return height, width

    def take(self, indices: Indices) -> Self:
        """The images at `indices`."""
        return type(self)(self.values[indices])

    def concat(self, *others: Self) -> Self:
        """These, then those of `others`."""
        return type(self)(np.concatenate([self.values, *(other.values for other in others)]))

    def split(self, parts: int) -> Sequence[Self]:
        """Consecutive pieces whose sizes differ by at most one."""
        return [type(self)(piece) for piece in np.array_split(self.values, parts)]

    def save(self, folder: Path) -> None:
        """Write `images.npy`."""
        np.save(folder / "images.npy", self.values, allow_pickle=False)

    def read(self, folder: Path) -> Self:
        """Read `images.npy`."""
        return type(self)(np.load(folder / "images.npy", allow_pickle=False))


Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class RealImages:
    """Images with a label each, the held-out ones apart."""

    train: Pictures
    labels: Labels
    held_out: Pictures
    held_out_labels: Labels

    @property
    def classes(self) -> int:
        """How many classes the labels tell apart; they count from 0."""
        return 1 + int(max(self.labels.max(), self.held_out_labels.max()))


def read_images(data: Digits | Idx) -> RealImages:
    """The real images that `data` names.

    Raises:
        InputError: files that cannot be read or do not fit together, or too few images.
        MissingPackageError: scikit-learn, which brings the digits, is not installed.
    """
    images, labels = _digits() if isinstance(data, Digits) else _read_pair(data, "data")
    if isinstance(data, Idx) and data.test is not None:
        return _checked(RealImages(Pictures(images), labels, *_test(data.test)))
    kept = len(images) - (data.held_out or 0)
    if kept < 1:
        raise InputError(
            f"data.held_out is {data.held_out}, and there are {len(images)} images: none is left to train on. "
            "Hold out fewer or take more."
        )
    return _checked(RealImages(Pictures(images[:kept]), labels[:kept], Pictures(images[kept:]), labels[kept:]))


def _digits() -> tuple[Greys, Labels]:
    found = require("sklearn.datasets", extra="images").load_digits()
    return np.round(found.images * (255 / 16)).astype(np.uint8), found.target.astype(np.uint8)


def _test(files: IdxFiles) -> tuple[Pictures, Labels]:
    images, labels = _read_pair(files, "data.test")
    return Pictures(images), labels


def _read_pair(files: IdxFiles, key: str) -> tuple[Greys, Labels]:
    images, labels = read_idx(files.images, dimensions=3), read_idx(files.labels, dimensions=1)
    if files.take is None and len(images) != len(labels):
        raise InputError(
            f"{files.images} holds {len(images):,} images, {files.labels} {len(labels):,} labels. "
            f"Give files of one set, or {key}.take to use the first images and labels only."
        )
    count = files.take or len(images)
    fewer = min(len(images), len(labels))
    if count > fewer:
        raise InputError(f"{key}.take is {count:,}, and there are {fewer:,} images with a label. Take fewer.")
    if count == 0:
        raise InputError(f"{files.images} holds no image. Give a file with some.")
    return images[:count], labels[:count]


def _checked(real: RealImages) -> RealImages:
    height, width = real.train.size
    if height % 4 or width % 4 or min(height, width) < 4:
        raise InputError(
            f"the images have {height} x {width} pixels. Give images whose sides are multiples of 4: "
            "the network halves them twice."
        )
    if real.held_out.size != real.train.size:
        raise InputError(
            f"the images of data.test have {real.held_out.size} pixels, those to train on {real.train.size}. "
            "Give images of one size."
        )
    return real
