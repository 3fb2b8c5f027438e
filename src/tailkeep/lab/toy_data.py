"""Data in arrays, models in arrays, and the worlds whose real density is known in closed form.

Rule: a draw is a function of the world and the seed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors import safe_open
from safetensors.numpy import save_file

from tailkeep.config import Settings, describe
from tailkeep.lab.protocols import Indices
from tailkeep.metrics import MODE_SHARE, mode_shares

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ArrayData:
    """Examples along the first axis of each field. What the other axes of `values` mean is the learner's business.

    Each field is one `.npy` file; a subclass with further fields or other file names overrides `files`.
    """

    files: ClassVar[tuple[str, ...]] = ("values.npy",)
    values: NDArray[Any]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def units(self) -> int:
        """One example is one unit."""
        return len(self)

    @property
    def fault(self) -> str:
        """Why these are no examples, for `lab.checks`; empty if they are."""
        for array in self._arrays:
            if not isinstance(array, np.ndarray) or array.dtype == object or not array.ndim:
                return f"of {describe(array)}. Give an array of numbers, examples along its first axis."
        return ""

    def take(self, indices: Indices) -> Self:
        """The examples at `indices`."""
        return type(self)(*(array[indices] for array in self._arrays))

    def concat(self, *others: Self) -> Self:
        """These examples, then those of `others`."""
        columns = zip(self._arrays, *(other._arrays for other in others), strict=True)
        return type(self)(*map(np.concatenate, columns))

    def split(self, parts: int) -> Sequence[Self]:
        """Consecutive parts whose sizes differ by at most one."""
        return [self.take(indices) for indices in np.array_split(np.arange(len(self)), parts)]

    def save(self, folder: Path) -> None:
        """Write `files`."""
        for name, array in zip(self.files, self._arrays, strict=True):
            np.save(folder / name, array, allow_pickle=False)

    def read(self, folder: Path) -> Self:
        """Read `files`."""
        return type(self)(*(np.load(folder / name, allow_pickle=False) for name in self.files))

    @property
    def _arrays(self) -> Sequence[NDArray[Any]]:
        return [getattr(self, field.name) for field in fields(self)]


def save_model(folder: Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, float]) -> None:
    """Write `model.safetensors` with the model's arrays and, in its header, its facts."""
    # safetensors writes memory as it lies: a transposed or sliced array would come back scrambled.
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"facts": json.dumps(dict(facts))})


def load_model(folder: Path) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
    """Read the arrays and the facts that `save_model` wrote."""
    with safe_open(folder / "model.safetensors", framework="numpy") as stored:
        arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (not a mapping)
        return arrays, json.loads(stored.metadata()["facts"])


_TABLE_POINTS = 600
_HELD_OUT = 1000  # beyond the numbers of the phases (`loop.phase_seed`)


def held_out_seed(seed: int) -> int:
    """The seed of the held-out data, which no phase of a chain uses."""
    # Not [seed, 1], which numpy pads with zeros to the seed of the first writing.
    return int(np.random.SeedSequence([seed, 0, _HELD_OUT]).generate_state(1)[0])


class NormalWorld(Settings):
    """Real data from a normal distribution: `size` values in each of `chains` independent repetitions.

    Attributes:
        mean: of the real data.
        std: of the real data.
    """

    name: Literal["normal"] = "normal"
    mean: float = 0.0
    std: Annotated[float, Field(gt=0)] = 1.0
    size: Annotated[int, Field(ge=2)] = 100
    chains: Annotated[int, Field(ge=1)] = 256

    def draw(self, seed: int) -> ArrayData:
        """(size, chains) independent values."""
        return ArrayData(np.random.default_rng(seed).normal(self.mean, self.std, (self.size, self.chains)))


class ModesWorld(Settings):
    """Real data from a mixture of round normal modes in the plane, whose weights fall by Zipf's law.

    Attributes:
        layout: where the centres stand.
        modes: how many there are.
        spacing: between neighbouring centres.
        std: of each mode, in each direction.
        zipf: the exponent of the weights, 0 for equal ones.
        size: how many real points there are.
    """

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
        cells = np.stack(np.divmod(np.arange(self.modes), side), axis=1).astype(np.float64)
        return np.asarray(self.spacing * (cells - (side - 1) / 2), dtype=np.float64)

    @property
    def weights(self) -> Floats:
        """(modes,): proportional to rank ** -zipf."""
        raw = np.arange(1, self.modes + 1, dtype=np.float64) ** -self.zipf
        return np.asarray(raw / raw.sum(), dtype=np.float64)

    @property
    def reach(self) -> float:
        """A point belongs to a mode up to this distance from its centre: three `std`."""
        return 3 * self.std

    def draw(self, seed: int) -> ArrayData:
        """(size, 2) points."""
        rng = np.random.default_rng(seed)
        modes = rng.choice(self.modes, size=self.size, p=self.weights)
        return ArrayData(self.centres[modes] + rng.normal(0.0, self.std, (self.size, 2)))


class MoonsWorld(Settings):
    """Real data from two arcs of radius 1 with round normal noise: a density along curves, not around centres.

    It has the attributes of `ModesWorld`. Its modes are `modes_per_arc` equal segments of each arc.

    Attributes:
        std: of the noise, in each direction.
        size: how many real points there are.
    """

    name: Literal["moons"]
    modes_per_arc: Annotated[int, Field(ge=1)] = 8
    std: Annotated[float, Field(gt=0)] = 0.1
    size: Annotated[int, Field(ge=2)] = 1000

    @property
    def modes(self) -> int:
        """Segments of both arcs."""
        return 2 * self.modes_per_arc

    @property
    def centres(self) -> Floats:
        """(modes, 2): the middles of the segments."""
        middles = np.pi * (np.arange(self.modes_per_arc) + 0.5) / self.modes_per_arc
        return np.concatenate([_upper(middles), _lower(middles)])

    @property
    def weights(self) -> Floats:
        """(modes,): all the same."""
        return np.full(self.modes, 1 / self.modes)

    @property
    def reach(self) -> float:
        """A point belongs to a mode up to this distance from its centre: half a segment and three `std`."""
        return float(np.pi / (2 * self.modes_per_arc) + 3 * self.std)

    def draw(self, seed: int) -> ArrayData:
        """(size, 2) points."""
        rng = np.random.default_rng(seed)
        angles, upper = rng.uniform(0, np.pi, self.size), rng.random(self.size) < 0.5
        points = np.where(upper[:, None], _upper(angles), _lower(angles))
        return ArrayData(points + rng.normal(0.0, self.std, (self.size, 2)))

    def fine(self) -> "MoonsWorld":
        """The same arcs with so many modes that round normal ones at their centres are its density.

        Segments of at most half a `std` leave a ripple of exp(-2 (2 π)²), far below float64. At the ends of the arcs
        the error is up to 0.07 nats a point; over points of the world its mean is below 1e-4 nats.
        """
        return self.model_copy(update={"modes_per_arc": int(np.ceil(2 * np.pi / self.std))})


def _upper(angles: Floats) -> Floats:
    return np.stack([np.cos(angles) - 0.5, np.sin(angles) - 0.25], axis=1)


def _lower(angles: Floats) -> Floats:
    return np.stack([0.5 - np.cos(angles), 0.25 - np.sin(angles)], axis=1)


def mode_tail(points: Floats, world: "ModesWorld | MoonsWorld") -> dict[str, Any]:
    """How many of `points` (n, 2) lie at each mode, beside those expected and those from which on it is alive."""
    expected = world.weights * len(points)
    counts = mode_shares(points, world.centres, radius=world.reach) * len(points)
    return {
        "kind": "modes",
        "real": expected.tolist(),
        "counts": np.rint(counts).astype(int).tolist(),
        "least": (MODE_SHARE * expected).tolist(),
    }


def mode_tables(points: Floats, world: "ModesWorld | MoonsWorld") -> dict[str, Any]:
    """The tables of samples `points` (n, 2): the tail, the first of the points, and the centres of the modes."""
    shown = {"points": points[:_TABLE_POINTS], "centres": world.centres}
    columns = {name: {"x": rows[:, 0].tolist(), "y": rows[:, 1].tolist()} for name, rows in shown.items()}
    return {"tail": mode_tail(points, world), **columns}
