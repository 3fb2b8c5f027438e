"""The Gaussian mixture: fit by scikit-learn's EM, sample, fit again; modes die out one by one.

Truncation drops the points that a first fit finds most likely and fits again on the rest (ForTIFAI, arXiv 2509.08972).
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.stats import norm

from tailkeep.errors import InputError
from tailkeep.lab.arm import ArmConfig, Positive
from tailkeep.lab.protocols import Experiment, Measurement
from tailkeep.lab.toy_data import ArrayData, Floats, ModesWorld, held_out_seed, load_model, mode_tables, save_model
from tailkeep.metrics import mode_shares, modes_alive, total_variation
from tailkeep.optional import require


class MixtureArm(ArmConfig):
    """An arm whose learner is a Gaussian mixture; the fit leaves out the share `drop` of most likely points.

    Attributes:
        components: components of the fitted mixture.
        iterations: the most steps of EM.
    """

    builder: ClassVar[str] = "mixture:build"
    extra: ClassVar[str] = "mixture"
    modules: ClassVar[tuple[str, ...]] = ("sklearn.mixture",)
    packages: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "scikit-learn")
    learner: Literal["mixture"]
    data: ModesWorld = ModesWorld()
    components: Positive = 25
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    iterations: Positive = 100


@dataclass(frozen=True)
class Mixture:
    """Weights (k,), means (k, 2) and covariances (k, 2, 2)."""

    weights: Floats
    means: Floats
    covariances: Floats
    facts: Mapping[str, float] = field(default_factory=dict)

    def sample(self, n: int, *, seed: int) -> ArrayData:
        """(n, 2) points."""
        rng = np.random.default_rng(seed)
        modes = rng.choice(len(self.weights), size=n, p=self.weights / self.weights.sum())
        factors = np.linalg.cholesky(self.covariances)
        noise = rng.standard_normal((n, self.means.shape[1]))
        return ArrayData(self.means[modes] + np.einsum("nij,nj->ni", factors[modes], noise))

    def regenerate(self, data: ArrayData, *, seed: int) -> ArrayData:
        """As many new points as `data` has: a point carries no prompt."""
        return self.sample(len(data), seed=seed)

    def log_density(self, points: Floats) -> Floats:
        """(n,) ln p of `points` (n, 2), in nats."""
        factors = np.linalg.cholesky(self.covariances)
        offsets = points[:, None, :] - self.means
        solved = np.linalg.solve(factors[None], offsets[..., None])[..., 0]
        half_log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        dimension = self.means.shape[1]
        log_each = -0.5 * (solved**2).sum(-1) - half_log_det - 0.5 * dimension * np.log(2 * np.pi)
        with np.errstate(divide="ignore"):
            weighted = log_each + np.log(self.weights)
        return np.asarray(np.logaddexp.reduce(weighted, axis=1), dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`."""
        arrays = {"weights": self.weights, "means": self.means, "covariances": self.covariances}
        save_model(folder, arrays, self.facts)


@dataclass(frozen=True)
class MixtureLearner:
    """EM from a k-means start, whose seed is the generation's."""

    components: int
    drop: float
    iterations: int

    def fit(self, data: ArrayData, *, seed: int, budget: int, previous: Mixture | None = None) -> Mixture:  # noqa: ARG002
        """Every generation starts from scratch: it uses neither budget nor previous model.

        Raises:
            InputError: fewer points than components, or a single one.
        """
        count = self.count_kept(len(data))
        first = self._em(data.values, seed)
        facts = {"train_units": float(len(data)), "dropped_share": 1 - count / len(data)}
        if count == len(data):
            return replace(first, facts=facts)
        least_likely = np.argsort(first.log_density(data.values), kind="stable")[:count]
        return replace(self._em(data.values[np.sort(least_likely)], seed), facts=facts)

    def count_kept(self, points: int) -> int:
        """How many of `points` the fit keeps.

        Raises:
            InputError: fewer than it has components, or a single one.
        """
        count, needed = points - round(self.drop * points), max(self.components, 2)
        if count < needed:
            raise InputError(
                f"{self.components} components need at least {needed} points, got {count} of {points} after drop. "
                "Use more data (data.size), fewer components or a smaller drop."
            )
        return count

    def load(self, folder: Path) -> Mixture:
        """Read `model.safetensors`."""
        arrays, facts = load_model(folder)
        return Mixture(**arrays, facts=facts)

    def _em(self, points: Floats, seed: int) -> Mixture:
        sklearn_mixture = require("sklearn.mixture", extra="mixture")
        exceptions = require("sklearn.exceptions", extra="mixture")
        em = sklearn_mixture.GaussianMixture(self.components, max_iter=self.iterations, random_state=seed % 2**32)
        with warnings.catch_warnings():
            # Collapsed data have fewer distinct clusters than components, and EM may stop at its iteration limit.
            warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
            em.fit(points)
        return Mixture(em.weights_, em.means_, em.covariances_)


def build(config: MixtureArm, *, seed: int) -> Experiment:
    """The mixture recursion on real points drawn with `seed`.

    Raises:
        InputError: too few points for the components.
    """
    world = config.data
    learner = MixtureLearner(config.components, config.drop, config.iterations)
    learner.count_kept(world.size)  # fails before a folder is made
    real = world.draw(seed)
    held_out = world.draw(held_out_seed(seed))
    return Experiment(
        name="mixture",
        real=real,
        learner=learner,
        views={"common": lambda model, seed: model.sample(world.size, seed=seed)},
        measure=lambda model, samples: _measure(model, samples, world, held_out),
    )


def _measure(model: Mixture, samples: Mapping[str, Any], world: ModesWorld, held_out: ArrayData) -> Measurement:
    points = samples["common"].values
    alive = modes_alive(points, world.centres, world.weights, radius=world.reach)
    metrics = {
        "modes_alive": float(alive),
        "modes_total": float(world.modes),
        "held_out_nll": float(-model.log_density(held_out.values).mean()),
        "weight_distance": total_variation(mode_shares(points, world.centres), world.weights),
    }
    return Measurement(metrics, {"density": _density(model, world), **mode_tables(points, world)})


def _density(model: Mixture, world: ModesWorld) -> Mapping[str, list[float]]:
    """The densities of the model and of the real mixture along the first axis, summed over the other."""
    centres = world.centres[:, 0]
    margin = 4 * world.std
    grid = np.linspace(centres.min() - margin, centres.max() + margin, 241)
    model_std = np.sqrt(model.covariances[:, 0, 0])
    fitted = norm.pdf(grid[:, None], model.means[:, 0], model_std) @ model.weights
    real = norm.pdf(grid[:, None], centres, world.std) @ world.weights
    return {"x": grid.tolist(), "model": fitted.tolist(), "real": real.tolist()}
