"""Grey images as the recursion's data. Rule: 8 bits a pixel, as real ones have, in memory and on disk alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tailkeep.lab.protocols import Indices

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
