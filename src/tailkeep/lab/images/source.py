"""The real images of a study: what autoencoders train on, and what is held out to measure by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailkeep.errors import InputError
from tailkeep.lab.images.idx import read_idx
from tailkeep.lab.images.pictures import Greys, Pictures
from tailkeep.lab.images.settings import Digits, Idx, IdxFiles
from tailkeep.optional import require

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
    images, labels = _digits() if isinstance(data, Digits) else _read(data, "data")
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
    images, labels = _read(files, "data.test")
    return Pictures(images), labels


def _read(files: IdxFiles, key: str) -> tuple[Greys, Labels]:
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
