"""Linear regression on its own labels: least squares on a fixed design, whose labels the last fit wrote or edited.

The recursion of ToEdit's theory (arXiv 2412.14689) without its simplifications. Rule: an example is a row of the design
and only its label is ever written, so every regime composes labels and no row changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tailkeep.config import Settings
from tailkeep.errors import InputError
from tailkeep.lab.arm import ArmConfig, Positive
from tailkeep.lab.protocols import Experiment, Indices, Measurement
from tailkeep.lab.regimes import Accumulate, AnyRegime, Replace, Revise
from tailkeep.lab.toy_data import Floats, load_model, save_model
from tailkeep.metrics import (
    accumulated_error,
    error_unit,
    published_decay_bound,
    published_edit_bound,
    published_edit_error,
    replaced_error,
    wide_edit_error,
)


class LinearWorld(Settings):
    """y = x w* + e in `lineages` repetitions: `size` T rows x of `width` d standard normal numbers, normal noise e."""

    name: Literal["linear"] = "linear"
    size: Positive = 100
    width: Positive = 10
    noise: Annotated[float, Field(gt=0)] = 1.0
    lineages: Annotated[int, Field(ge=2)] = 256

    @model_validator(mode="after")
    def _errors_are_finite(self) -> Self:
        if self.size < self.width + 2:
            raise ValueError(
                f"size {self.size} and width {self.width}: the expected test error is infinite. "
                f"Use a size of width + 2 = {self.width + 2} or more"
            )
        return self

    def draw(self, seed: int) -> tuple[Floats, Floats, Floats]:
        """The design (lineages, size, width), the true coefficients (lineages, width), and noise (size, lineages)."""
        rng = np.random.default_rng(seed)
        design = rng.standard_normal((self.lineages, self.size, self.width))
        truth = rng.standard_normal((self.lineages, self.width))
        return design, truth, self.noise * rng.standard_normal((self.size, self.lineages))


class RegressionArm(ArmConfig):
    """An arm whose learner is least squares; `drop` is the share of labels nearest to a plain fit that are left out."""

    learner: Literal["regression"]
    data: LinearWorld = LinearWorld()
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.0


@dataclass(frozen=True)
class Labels:
    """Labels `values` (n, lineages) of the design's rows `rows` (n,); a row may have several labels or none."""

    values: Floats
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def units(self) -> int:
        """One label a lineage is one unit."""
        return len(self.rows)

    def take(self, indices: Indices) -> Self:
        """The labels at `indices`."""
        return type(self)(self.values[indices], self.rows[indices])

    def concat(self, *others: Self) -> Self:
        """These, then those of `others`."""
        every = (self, *others)
        return type(self)(np.concatenate([o.values for o in every]), np.concatenate([o.rows for o in every]))

    def split(self, parts: int) -> Sequence[Self]:
        """Consecutive pieces whose sizes differ by at most one."""
        return [self.take(piece) for piece in np.array_split(np.arange(len(self)), parts)]

    def save(self, folder: Path) -> None:
        """Write `values.npy` and `rows.npy`."""
        np.save(folder / "values.npy", self.values, allow_pickle=False)
        np.save(folder / "rows.npy", self.rows, allow_pickle=False)

    def read(self, folder: Path) -> Self:
        """Read what `save` has written."""
        return type(self)(*(np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("values", "rows")))


@dataclass(frozen=True)
class LinearFit:
    """Coefficients (lineages, width) of one generation, on a design (lineages, size, width) that it does not own."""

    coefficients: Floats
    generation: int
    design: Floats
    noise: float
    facts: Mapping[str, float] = field(default_factory=dict)

    def sample(self, n: int, *, seed: int) -> Labels:
        """Labels of `n` rows, in the design's order and from its start again where it ends."""
        return self._label(np.arange(n) % self.design.shape[1], seed)

    def regenerate(self, data: Labels, *, seed: int) -> Labels:
        """New labels for the rows of `data`."""
        return self._label(data.rows, seed)

    def predict(self) -> Floats:
        """(size, lineages) labels without noise."""
        return np.asarray(np.einsum("ltd,ld->tl", self.design, self.coefficients), dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`; the design is a function of the world and its seed."""
        arrays = {"coefficients": self.coefficients, "generation": np.array([float(self.generation)])}
        save_model(folder, arrays, self.facts)

    def _label(self, rows: NDArray[np.int64], seed: int) -> Labels:
        noise = np.random.default_rng(seed).standard_normal((len(rows), len(self.coefficients)))
        return Labels(self.predict()[rows] + self.noise * noise, rows)


@dataclass(frozen=True)
class LeastSquares:
    """Ordinary least squares without a ridge, after leaving out the share `drop` of labels nearest to a plain fit.

    With normal noise the nearest labels are the likeliest ones: the regression's form of truncation.
    """

    design: Floats
    noise: float
    drop: float = 0.0

    def fit(self, data: Labels, *, seed: int, budget: int, previous: LinearFit | None = None) -> LinearFit:  # noqa: ARG002
        """The fit has a closed form: seed and budget do not enter, and of the predecessor only its number.

        Raises:
            InputError: fewer rows than coefficients are left.
        """
        generation = 0 if previous is None else previous.generation + 1
        kept = np.ones(data.values.shape, dtype=bool)
        fit = LinearFit(self._solve(data, kept), generation, self.design, self.noise)
        dropped = round(self.drop * len(data))
        if dropped:
            distance = np.abs(data.values - fit.predict()[data.rows])
            nearest = np.argsort(distance, axis=0, kind="stable")[:dropped]
            np.put_along_axis(kept, nearest, values=False, axis=0)
            fit = LinearFit(self._solve(data, kept), generation, self.design, self.noise)
        facts = {"train_units": float(len(data)), "dropped_share": dropped / len(data)}
        return LinearFit(fit.coefficients, generation, self.design, self.noise, facts)

    def load(self, folder: Path) -> LinearFit:
        """Read `model.safetensors`."""
        arrays, facts = load_model(folder)
        return LinearFit(arrays["coefficients"], int(arrays["generation"][0]), self.design, self.noise, facts)

    def _solve(self, data: Labels, kept: NDArray[np.bool_]) -> Floats:
        """(lineages, width) coefficients from the labels (n, lineages) that are `kept`."""
        lineages, size, width = self.design.shape
        counts, sums = np.zeros((size, lineages)), np.zeros((size, lineages))
        np.add.at(counts, data.rows, kept)
        np.add.at(sums, data.rows, np.where(kept, data.values, 0.0))
        fewest = int((counts > 0).sum(axis=0).min())
        if fewest < width:
            raise InputError(
                f"labels of {fewest} rows are left for {width} coefficients, which need at least {width}. "
                "Use more data (data.size), fewer coefficients (data.width) or a smaller drop."
            )
        gram = np.einsum("ltd,tl,lte->lde", self.design, counts, self.design, optimize=True)
        right = np.einsum("ltd,tl->ld", self.design, sums)
        return np.asarray(np.linalg.solve(gram, right[..., None])[..., 0], dtype=np.float64)


_RATIOS = {
    "test_error_exact": "closed_form_ratio",
    "test_error_wide": "closed_form_ratio",
    "test_error_bound": "bound_ratio",
    "test_error_decay_bound": "decay_bound_ratio",
}
"""What the measured error is divided by, and what the quotient is called. An arm has one closed form of its own."""


def build(study: RegressionArm, *, seed: int) -> Experiment:
    """The recursion of labels on a design drawn with `seed`. Its test error is exact, so nothing is sampled for it.

    Raises:
        InputError: fewer labels than coefficients are left after `drop`.
    """
    world = study.data
    design, truth, noise = world.draw(seed)
    learner = LeastSquares(design, world.noise, study.drop)
    real = Labels(LinearFit(truth, 0, design, world.noise).predict() + noise, np.arange(world.size))
    # What cannot be fitted is refused before a folder is made.
    learner.fit(real, seed=seed, budget=len(real))
    return Experiment(
        name="regression",
        real=real,
        learner=learner,
        views={},
        measure=lambda model, samples: _measure(model, truth, study),  # noqa: ARG005
    )


def _measure(model: LinearFit, truth: Floats, study: RegressionArm) -> Measurement:
    """E |w - w*|² in units of the first fit's, its Monte-Carlo error over lineages, and what theory says of it."""
    world = study.data
    errors = ((model.coefficients - truth) ** 2).sum(axis=1) / error_unit(world.size, world.width, world.noise)
    metrics = {
        "test_error": float(errors.mean()),
        "test_error_se": float(errors.std(ddof=1) / np.sqrt(len(errors))),
    }
    theory = {} if study.drop else _theory(study.regime, model.generation, world)
    for beside, ratio in _RATIOS.items():
        if beside in theory:
            metrics[ratio] = metrics["test_error"] / theory[beside]
    return Measurement({**metrics, **theory})


def _theory(regime: AnyRegime, generation: int, world: LinearWorld) -> dict[str, float]:
    """What papers and `metrics.linear_theory` say of this regime; nothing where they say nothing.

    `test_error_theory` is the published closed form, and `test_error_exact` that of the recursion itself where the
    published one is it; `test_error_wide` is the recursion's own for edits, where rows far outnumber coefficients.
    """
    match regime:
        case Replace():
            return _exact(replaced_error(generation))
        case Accumulate():
            return _exact(accumulated_error(generation))
        case Revise(subset="anchored"):
            return {"test_error_wide": wide_edit_error(regime.shares(generation), "anchored")}
        case Revise():
            shares = regime.shares(generation)
            return {
                "test_error_theory": published_edit_error(shares),
                "test_error_wide": wide_edit_error(shares, regime.subset),
                "test_error_bound": published_edit_bound(),
                **_decay_bound(regime, world),
            }
        case _:
            return {}


def _exact(error: float) -> dict[str, float]:
    return {"test_error_theory": error, "test_error_exact": error}


def _decay_bound(regime: Revise, world: LinearWorld) -> dict[str, float]:
    """The second bound of edits that decay; none where they do not, or where the data are too few for it."""
    if regime.factor == 1 or world.size < world.width + 4:
        return {}
    bound = published_decay_bound(world.size, world.width, share=regime.share, factor=regime.factor)
    return {"test_error_decay_bound": bound}
