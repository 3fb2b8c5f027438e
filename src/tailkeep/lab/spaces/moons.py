"""Two half circles in the plane, each around the other's end: a density along curves instead of around centres.

Rule: it answers what `ModesWorld` answers; its modes are equal pieces of the arcs.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tailkeep.config import Settings
from tailkeep.lab.numbers import Floats, Numbers


class MoonsWorld(Settings):
    """Real data from two arcs of radius 1 with round normal noise; each arc is cut into `pieces` equal modes."""

    name: Literal["moons"]
    pieces: Annotated[int, Field(ge=1)] = 8
    std: Annotated[float, Field(gt=0)] = 0.1
    size: Annotated[int, Field(ge=2)] = 1000

    @property
    def modes(self) -> int:
        """Pieces of both arcs."""
        return 2 * self.pieces

    @property
    def centres(self) -> Floats:
        """(modes, 2): the middles of the pieces."""
        middles = np.pi * (np.arange(self.pieces) + 0.5) / self.pieces
        return np.concatenate([_upper(middles), _lower(middles)])

    @property
    def weights(self) -> Floats:
        """(modes,): all the same."""
        return np.full(self.modes, 1 / self.modes)

    @property
    def reach(self) -> float:
        """How far from its centre a point may lie that still belongs to a piece: half of it and three deviations."""
        return float(np.pi / (2 * self.pieces) + 3 * self.std)

    def draw(self, seed: int) -> Numbers:
        """(size, 2) points."""
        rng = np.random.default_rng(seed)
        angles, upper = rng.uniform(0, np.pi, self.size), rng.random(self.size) < 0.5
        places = np.where(upper[:, None], _upper(angles), _lower(angles))
        return Numbers(places + rng.normal(0.0, self.std, (self.size, 2)))

    def fine(self) -> "MoonsWorld":
        """The same arcs in so many pieces that round normal modes at their middles are its density.

        Pieces no longer than half a deviation leave a ripple of exp(-2 (2 π)²), far below float64.
        """
        return self.model_copy(update={"pieces": int(np.ceil(2 * np.pi / self.std))})


def _upper(angles: Floats) -> Floats:
    return np.stack([np.cos(angles) - 0.5, np.sin(angles) - 0.25], axis=1)


def _lower(angles: Floats) -> Floats:
    return np.stack([0.5 - np.cos(angles), 0.25 - np.sin(angles)], axis=1)
