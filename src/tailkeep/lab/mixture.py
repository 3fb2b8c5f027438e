"""The Gaussian mixture: fit by scikit-learn's EM, sample, fit again; modes die out one by one.

Truncation drops the points that a plain fit finds most likely and fits again on the rest (ForTIFAI, arXiv 2509.08972).
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from scipy.stats import norm

from tailkeep.errors import InputError
from tailkeep.lab.arm import ArmConfig, Positive
from tailkeep.lab.protocols import Experiment, Measurement
from tailkeep.lab.toy_data import Floats, ModesWorld, Numbers, load_model, save_model
from tailkeep.metrics import mode_shares, modes_alive, total_variation
from tailkeep.optional import require

_SHOWN = 600
_HELD_OUT = 1000  # beyond the numbers of the phases


class MixtureArm(ArmConfig):
    """An arm whose learner is a Gaussian mixture; `drop` is the share of most likely points left out of the fit."""

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

    def sample(self, n: int, *, seed: int) -> Numbers:
        """(n, 2) points."""
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(self.weights), size=n, p=self.weights / self.weights.sum())
        factors = np.linalg.cholesky(self.covariances)
        noise = rng.standard_normal((n, self.means.shape[1]))
        return Numbers(self.means[chosen] + np.einsum("nij,nj->ni", factors[chosen], noise))

    def regenerate(self, data: Numbers, *, seed: int) -> Numbers:
        """As many fresh points as `data` has: a point carries no prompt."""
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
    """EM from a k-means start drawn with the generation's seed."""

    components: int
    drop: float
    iterations: int

    def fit(self, data: Numbers, *, seed: int, budget: int, previous: Mixture | None = None) -> Mixture:  # noqa: ARG002
        """Every generation starts anew; budget and predecessor do not enter.

        Raises:
            InputError: fewer points than components, or a single one.
        """
        kept = self.kept(len(data))
        plain = self._em(data.values, seed)
        facts = {"train_units": float(len(data)), "dropped_share": 1 - kept / len(data)}
        if kept == len(data):
            return Mixture(plain.weights, plain.means, plain.covariances, facts)
        least_likely = np.argsort(plain.log_density(data.values), kind="stable")[:kept]
        final = self._em(data.values[np.sort(least_likely)], seed)
        return Mixture(final.weights, final.means, final.covariances, facts)

    def kept(self, points: int) -> int:
        """How many of `points` the fit keeps.

        Raises:
            InputError: fewer than it has components, or a single one.
        """
        kept, needed = points - round(self.drop * points), max(self.components, 2)
        if kept < needed:
            raise InputError(
                f"{kept} of {points} points are left for {self.components} components, which need at least {needed}. "
                "Use more data (data.size), fewer components or a smaller drop."
            )
        return kept

    def load(self, folder: Path) -> Mixture:
        """Read `model.safetensors`."""
        arrays, facts = load_model(folder)
        return Mixture(**arrays, facts=facts)

    def _em(self, points: Floats, seed: int) -> Mixture:
        sklearn_mixture = require("sklearn.mixture", extra="mixture")
        exceptions = require("sklearn.exceptions", extra="mixture")
        em = sklearn_mixture.GaussianMixture(self.components, max_iter=self.iterations, random_state=seed % 2**32)
        with warnings.catch_warnings():
            # A collapsed world has fewer distinct clusters than components, and EM may stop at its iteration limit.
            warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
            em.fit(points)
        return Mixture(em.weights_, em.means_, em.covariances_)


def build(study: MixtureArm, *, seed: int) -> Experiment:
    """The mixture recursion on real points drawn with `seed`.

    Raises:
        InputError: too few points are left for the components.
    """
    world = study.data
    learner = MixtureLearner(study.components, study.drop, study.iterations)
    # What cannot be fitted is refused before a folder is made.
    learner.kept(world.size)
    real = world.draw(seed)
    # Not [seed, 1], which numpy pads with zeros into the seed of the first writing (`recursion.phase_seed`).
    held_out = world.draw(int(np.random.SeedSequence([seed, 0, _HELD_OUT]).generate_state(1)[0]))
    return Experiment(
        name="mixture",
        real=real,
        learner=learner,
        views={"common": lambda model, seed: model.sample(world.size, seed=seed)},
        measure=lambda model, samples: _measure(model, samples, world, held_out),
    )


def _measure(model: Mixture, samples: Mapping[str, Any], world: ModesWorld, held_out: Numbers) -> Measurement:
    points = samples["common"].values
    alive = modes_alive(points, world.centres, world.weights, radius=3 * world.std)
    metrics = {
        "modes_alive": float(alive),
        "modes_total": float(world.modes),
        "held_out_nll": float(-model.log_density(held_out.values).mean()),
        "weight_distance": total_variation(mode_shares(points, world.centres), world.weights),
    }
    tables = {
        "density": _density(model, world),
        "points": {"x": points[:_SHOWN, 0].tolist(), "y": points[:_SHOWN, 1].tolist()},
        "centres": {"x": world.centres[:, 0].tolist(), "y": world.centres[:, 1].tolist()},
    }
    return Measurement(metrics, tables)


def _density(model: Mixture, world: ModesWorld) -> Mapping[str, list[float]]:
    """The densities of the model and of the real mixture along the first axis, summed over the other."""
    places = world.centres[:, 0]
    margin = 4 * world.std
    grid = np.linspace(places.min() - margin, places.max() + margin, 241)
    model_std = np.sqrt(model.covariances[:, 0, 0])
    fitted = norm.pdf(grid[:, None], model.means[:, 0], model_std) @ model.weights
    real = norm.pdf(grid[:, None], places, world.std) @ world.weights
    return {"x": grid.tolist(), "model": fitted.tolist(), "real": real.tolist()}
