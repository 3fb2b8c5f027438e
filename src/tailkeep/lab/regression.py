"""Linear regression on its own labels: least squares on a fixed design, with labels that the last fit wrote or edited.

The recursion of ToEdit's theory (arXiv 2412.14689) without its simplifications. Rule: an example is a row of the design
and models write its label only, so every regime composes labels and no row changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tailkeep.config import Settings
from tailkeep.errors import InputError
from tailkeep.lab.arm import ArmConfig, Positive
from tailkeep.lab.protocols import Experiment, Measurement
from tailkeep.lab.regimes import Accumulate, AnyRegime, Replace, Revise
from tailkeep.lab.toy_data import ArrayData, Floats, load_model, save_model
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
    """y = x w* + e in `chains` repetitions: `size` T rows x of `width` d standard normal numbers, normal noise e.

    Attributes:
        noise: the standard deviation of e.
    """

    name: Literal["linear"] = "linear"
    size: Positive = 100
    width: Positive = 10
    noise: Annotated[float, Field(gt=0)] = 1.0
    chains: Annotated[int, Field(ge=2)] = 256

    @model_validator(mode="after")
    def _errors_are_finite(self) -> Self:
        if self.size < self.width + 2:
            raise ValueError(
                f"size {self.size} and width {self.width}: the expected test error is infinite. "
                f"Use a size of width + 2 = {self.width + 2} or more"
            )
        return self

    def draw(self, seed: int) -> tuple[Floats, Floats, Floats]:
        """The design (chains, size, width), the true coefficients (chains, width), and noise (size, chains)."""
        rng = np.random.default_rng(seed)
        design = rng.standard_normal((self.chains, self.size, self.width))
        truth = rng.standard_normal((self.chains, self.width))
        return design, truth, self.noise * rng.standard_normal((self.size, self.chains))


class RegressionArm(ArmConfig):
    """An arm whose learner is least squares; the fit leaves out the share `drop` of labels nearest to a first fit."""

    builder: ClassVar[str] = "regression:build"
    packages: ClassVar[tuple[str, ...]] = ("numpy", "scipy")
    reads_regime: ClassVar[bool] = True
    learner: Literal["regression"]
    data: LinearWorld = LinearWorld()
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.0


@dataclass(frozen=True)
class LabelData(ArrayData):
    """Labels `values` (n, chains) of the design's rows `rows` (n,); a row may have several labels or none."""

    files: ClassVar[tuple[str, ...]] = ("values.npy", "rows.npy")
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class LinearFit:
    """Coefficients (chains, width) of one generation, on a design (chains, size, width) that is not saved with them."""

    coefficients: Floats
    generation: int
    design: Floats
    noise: float
    facts: Mapping[str, float] = field(default_factory=dict)

    def sample(self, n: int, *, seed: int) -> LabelData:
        """Labels of `n` rows in the design's order, which starts again at its end."""
        return self._label(np.arange(n) % self.design.shape[1], seed)

    def regenerate(self, data: LabelData, *, seed: int) -> LabelData:
        """New labels for the rows of `data`."""
        return self._label(data.rows, seed)

    def predict(self) -> Floats:
        """(size, chains) labels without noise."""
        return np.asarray(np.einsum("ltd,ld->tl", self.design, self.coefficients), dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`; the design is a function of the world and its seed."""
        arrays = {"coefficients": self.coefficients, "generation": np.array([float(self.generation)])}
        save_model(folder, arrays, self.facts)

    def _label(self, rows: NDArray[np.int64], seed: int) -> LabelData:
        noise = np.random.default_rng(seed).standard_normal((len(rows), len(self.coefficients)))
        return LabelData(self.predict()[rows] + self.noise * noise, rows)


@dataclass(frozen=True)
class LeastSquares:
    """Ordinary least squares without a ridge, without the share `drop` of labels nearest to a first fit.

    With normal noise the nearest labels are the most likely ones: the regression's form of truncation.
    """

    design: Floats
    noise: float
    drop: float = 0.0

    def fit(self, data: LabelData, *, seed: int, budget: int, previous: LinearFit | None = None) -> LinearFit:  # noqa: ARG002
        """The fit has a closed form: it uses neither seed nor budget, and of the previous model only its number.

        Raises:
            InputError: fewer rows with a label than coefficients.
        """
        generation = 0 if previous is None else previous.generation + 1
        kept_mask = np.ones(data.values.shape, dtype=bool)
        coefficients = self._solve(data, kept_mask)
        dropped = round(self.drop * len(data))
        if dropped:
            first = LinearFit(coefficients, generation, self.design, self.noise)
            distance = np.abs(data.values - first.predict()[data.rows])
            nearest = np.argsort(distance, axis=0, kind="stable")[:dropped]
            np.put_along_axis(kept_mask, nearest, values=False, axis=0)
            coefficients = self._solve(data, kept_mask)
        facts = {"train_units": float(len(data)), "dropped_share": dropped / len(data)}
        return LinearFit(coefficients, generation, self.design, self.noise, facts)

    def load(self, folder: Path) -> LinearFit:
        """Read `model.safetensors`."""
        arrays, facts = load_model(folder)
        return LinearFit(arrays["coefficients"], int(arrays["generation"][0]), self.design, self.noise, facts)

    def _solve(self, data: LabelData, kept_mask: NDArray[np.bool_]) -> Floats:
        """(chains, width) coefficients from the labels (n, chains) of the mask `kept_mask`."""
        chains, size, width = self.design.shape
        counts, sums = np.zeros((size, chains)), np.zeros((size, chains))
        np.add.at(counts, data.rows, kept_mask)
        np.add.at(sums, data.rows, np.where(kept_mask, data.values, 0.0))
        fewest = int((counts > 0).sum(axis=0).min())
        if fewest < width:
            raise InputError(
                f"{width} coefficients need labels of at least {width} rows, got {fewest}. "
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
"""The names of the measured error over each closed form. An arm has at most one exact form."""


def build(config: RegressionArm, *, seed: int) -> Experiment:
    """The recursion of labels on a design drawn with `seed`. Its test error is exact, so nothing is sampled for it.

    Raises:
        InputError: fewer rows with a label than coefficients after `drop`.
    """
    world = config.data
    design, truth, noise = world.draw(seed)
    learner = LeastSquares(design, world.noise, config.drop)
    real = LabelData(LinearFit(truth, 0, design, world.noise).predict() + noise, np.arange(world.size))
    learner.fit(real, seed=seed, budget=len(real))  # fails before a folder is made
    return Experiment(
        name="regression",
        real=real,
        learner=learner,
        views={},
        measure=lambda model, samples: _measure(model, truth, config),  # noqa: ARG005
    )


def _measure(model: LinearFit, truth: Floats, config: RegressionArm) -> Measurement:
    """E |w - w*|² in units of the first fit's, its Monte-Carlo error over chains, and the closed forms beside it."""
    world = config.data
    errors = ((model.coefficients - truth) ** 2).sum(axis=1) / error_unit(world.size, world.width, world.noise)
    metrics = {
        "test_error": float(errors.mean()),
        "test_error_se": float(errors.std(ddof=1) / np.sqrt(len(errors))),
    }
    theory = {} if config.drop else _theory(config.regime, model.generation, world)
    for closed_form, ratio in _RATIOS.items():
        if closed_form in theory:
            metrics[ratio] = metrics["test_error"] / theory[closed_form]
    return Measurement({**metrics, **theory})


def _theory(regime: AnyRegime, generation: int, world: LinearWorld) -> dict[str, float]:
    """The closed forms of this regime, see `metrics.theory`; nothing where there are none.

    `test_error_theory` is the published form, and `test_error_exact` the same where it is exact for the recursion.
    `test_error_wide` is the recursion's form for edits, exact where rows far outnumber coefficients.
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
    """The second bound of edits, of shares that decay; nothing where they do not, or where the data are too few."""
    if regime.factor == 1 or world.size < world.width + 4:
        return {}
    bound = published_decay_bound(world.size, world.width, share=regime.share, factor=regime.factor)
    return {"test_error_decay_bound": bound}
