"""Data made of numbers: the worlds of the Gaussian and the mixture, whose truth is known in closed form."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors import safe_open
from safetensors.numpy import save_file

from tailkeep.config import Settings
from tailkeep.lab.protocols import Indices

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Numbers:
    """Examples along the first axis of `values`; what the other axes mean is the learner's business."""

    values: Floats

    def __len__(self) -> int:
        return len(self.values)

    @property
    def units(self) -> int:
        """One example is one unit."""
        return len(self.values)

    def take(self, indices: Indices) -> Self:
        """The examples at `indices`."""
        return type(self)(self.values[indices])

    def concat(self, *others: Self) -> Self:
        """These, then those of `others`."""
        return type(self)(np.concatenate([self.values, *(other.values for other in others)]))

    def split(self, parts: int) -> Sequence[Self]:
        """Consecutive pieces whose sizes differ by at most one."""
        return [type(self)(piece) for piece in np.array_split(self.values, parts)]

    def save(self, folder: Path) -> None:
        """Write `values.npy`."""
        np.save(folder / "values.npy", self.values, allow_pickle=False)

    def read(self, folder: Path) -> Self:
        """Read `values.npy`."""
        return type(self)(np.load(folder / "values.npy", allow_pickle=False))


class NormalWorld(Settings):
    """Real data from a normal distribution: `size` examples in each of `lineages` independent repetitions."""

    name: Literal["normal"] = "normal"
    mean: float = 0.0
    std: Annotated[float, Field(gt=0)] = 1.0
    size: Annotated[int, Field(ge=2)] = 100
    lineages: Annotated[int, Field(ge=1)] = 256

    def draw(self, seed: int) -> Numbers:
        """(size, lineages) independent values."""
        return Numbers(np.random.default_rng(seed).normal(self.mean, self.std, (self.size, self.lineages)))


class ModesWorld(Settings):
    """Real data from a mixture of round normal modes in the plane, whose weights fall by Zipf's law."""

    name: Literal["modes"] = "modes"
    layout: Literal["ring", "grid"] = "grid"
    modes: Annotated[int, Field(ge=1)] = 25
    spacing: Annotated[float, Field(gt=0)] = 1.0
    std: Annotated[float, Field(gt=0)] = 0.1
    zipf: Annotated[float, Field(ge=0)] = 0.0
    size: Annotated[int, Field(ge=2)] = 1000

    @property
    def centres(self) -> Floats:
        """(modes, 2): neighbours are `spacing` apart."""
        if self.layout == "ring":
            angles = 2 * np.pi * np.arange(self.modes) / self.modes
            radius = self.spacing / (2 * np.sin(np.pi / max(self.modes, 2)))
            return np.asarray(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), dtype=np.float64)
        side = int(np.ceil(np.sqrt(self.modes)))
        places = np.stack(np.divmod(np.arange(self.modes), side), axis=1).astype(np.float64)
        return np.asarray(self.spacing * (places - (side - 1) / 2), dtype=np.float64)

    @property
    def weights(self) -> Floats:
        """(modes,): proportional to rank ** -zipf."""
        raw = np.arange(1, self.modes + 1, dtype=np.float64) ** -self.zipf
        return np.asarray(raw / raw.sum(), dtype=np.float64)

    def draw(self, seed: int) -> Numbers:
        """(size, 2) points."""
        rng = np.random.default_rng(seed)
        chosen = rng.choice(self.modes, size=self.size, p=self.weights)
        return Numbers(self.centres[chosen] + rng.normal(0.0, self.std, (self.size, 2)))


def save_model(folder: Path, arrays: Mapping[str, Floats], facts: Mapping[str, float]) -> None:
    """Write `model.safetensors` with the model's arrays and, in its header, its facts."""
    # safetensors writes memory as it lies, so a transposed or cut array would come back scrambled.
    laid_out = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(laid_out, folder / "model.safetensors", metadata={"facts": json.dumps(dict(facts))})


def load_model(folder: Path) -> tuple[dict[str, Floats], dict[str, float]]:
    """The arrays and the facts that `save_model` has written."""
    with safe_open(folder / "model.safetensors", framework="numpy") as stored:
        arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (not a mapping)
        return arrays, json.loads(stored.metadata()["facts"])


# Two half circles in the plane, each around the other's end: a density along curves instead of around centres.
#
# Rule: it answers what `ModesWorld` answers; its modes are equal pieces of the arcs.


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
