"""The 1-D Gaussian: fit by maximum likelihood, sample, fit again. Many independent chains run side by side.

Without a remedy the standard deviation shrinks to zero: E[var] falls by (n - 1) / n per generation. Truncation
drops the most likely values and fits again on the rest (ForTIFAI, arXiv 2509.08972, section on theory).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import norm

from tailkeep.config import Settings
from tailkeep.errors import TrainingError
from tailkeep.lab.arm import ArmConfig
from tailkeep.lab.protocols import Experiment, Measurement
from tailkeep.lab.regimes import Accumulate, Replace
from tailkeep.lab.toy_data import ArrayData, Floats, NormalWorld, load_model, save_model
from tailkeep.metrics import (
    accumulated_variance,
    density_floor,
    expected_variance,
    expected_variance_error,
    gaussian_kl,
    median_variance,
    variance_growth,
)


class DensityTruncation(Settings):
    """Drop values whose density under a maximum-likelihood fit exceeds `threshold`.

    It acts only once the fit's peak, 0.399 / std, exceeds the threshold: a floor under the standard deviation.
    """

    name: Literal["density"]
    threshold: Annotated[float, Field(gt=0)] = 0.85

    def keep_mask(self, distance: Floats, std: Floats) -> NDArray[np.bool_]:
        """(n, chains) boolean; `distance` in standard deviations."""
        return np.asarray(norm.pdf(distance) <= self.threshold * std)


class RelativeTruncation(Settings):
    """Drop values closer to the mean than `width` standard deviations of a maximum-likelihood fit.

    The variance of the rest is eta(a) = 1 + a phi(a) / (1 - Phi(a)) times that of the fit, for `width` a.
    """

    name: Literal["relative"]
    width: Annotated[float, Field(gt=0)] = 0.0125

    def keep_mask(self, distance: Floats, std: Floats) -> NDArray[np.bool_]:  # noqa: ARG002
        """(n, chains) boolean; `distance` in standard deviations."""
        return np.asarray(np.abs(distance) >= self.width)


class GaussianArm(ArmConfig):
    """An arm whose learner is a normal distribution; without `truncate` the fit is maximum likelihood."""

    builder: ClassVar[str] = "gaussian:build"
    packages: ClassVar[tuple[str, ...]] = ("numpy", "scipy")
    reads_regime: ClassVar[bool] = True
    learner: Literal["gaussian"]
    data: NormalWorld = NormalWorld()
    truncate: Annotated[DensityTruncation | RelativeTruncation, Field(discriminator="name")] | None = None


@dataclass(frozen=True)
class GaussianModel:
    """One normal distribution per chain: `mean` and `std` of shape (chains,), of the generation `generation`."""

    mean: Floats
    std: Floats
    facts: Mapping[str, float] = field(default_factory=dict)
    generation: int = 0

    def sample(self, n: int, *, seed: int) -> ArrayData:
        """(n, chains) values."""
        noise = np.random.default_rng(seed).standard_normal((n, len(self.mean)))
        return ArrayData(self.mean + self.std * noise)

    def regenerate(self, data: ArrayData, *, seed: int) -> ArrayData:
        """As many new values as `data` has: a number carries no prompt."""
        return self.sample(len(data), seed=seed)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`."""
        arrays = {"mean": self.mean, "std": self.std, "generation": np.array([float(self.generation)])}
        save_model(folder, arrays, self.facts)


@dataclass(frozen=True)
class GaussianLearner:
    """Maximum likelihood, after dropping the most likely values if there is a `truncate`.

    Guard: a chain that would keep fewer than two values keeps its two most distant ones, so it neither ends nor falls
    back to the untruncated fit. `guarded_share` is the share of chains in which that happened.
    """

    truncate: DensityTruncation | RelativeTruncation | None

    def fit(self, data: ArrayData, *, seed: int, budget: int, previous: GaussianModel | None = None) -> GaussianModel:  # noqa: ARG002
        """The fit has a closed form: it uses neither seed nor budget, and of the previous model only its number.

        Raises:
            TrainingError: the standard deviation of a chain exceeds the largest float.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            model = self._fit(data.values)
        if not (np.isfinite(model.mean).all() and np.isfinite(model.std).all()):
            raise TrainingError(
                "the standard deviation of a chain is no longer finite: the truncation makes it grow per generation. "
                "Use a smaller truncate.width or fewer generations."
            )
        return replace(model, generation=0 if previous is None else previous.generation + 1)

    def _fit(self, values: Floats) -> GaussianModel:
        mean, std = values.mean(axis=0), values.std(axis=0)
        if self.truncate is None:
            return GaussianModel(
                mean, std, {"train_units": float(len(values)), "dropped_share": 0.0, "guarded_share": 0.0}
            )
        safe = np.maximum(std, np.finfo(np.float64).tiny)
        distance = np.abs(values - mean) / safe
        kept_mask = self.truncate.keep_mask(distance, safe)
        guarded = kept_mask.sum(axis=0) < 2
        if guarded.any():
            farthest = np.argsort(-distance[:, guarded], axis=0, kind="stable")[:2]
            kept_mask[farthest, np.flatnonzero(guarded)] = True
        count = kept_mask.sum(axis=0)
        new_mean = np.where(kept_mask, values, 0.0).sum(axis=0) / count
        new_std = np.sqrt(np.where(kept_mask, (values - new_mean) ** 2, 0.0).sum(axis=0) / count)
        facts = {
            "train_units": float(len(values)),
            "dropped_share": float(1 - kept_mask.mean()),
            "guarded_share": float(guarded.mean()),
            "cut_growth": float(((new_std / safe) ** 2).mean()),
        }
        return GaussianModel(new_mean, new_std, facts)

    def load(self, folder: Path) -> GaussianModel:
        """Read `model.safetensors`."""
        arrays, facts = load_model(folder)
        return GaussianModel(arrays["mean"], arrays["std"], facts, int(arrays["generation"][0]))


def build(config: GaussianArm, *, seed: int) -> Experiment:
    """The Gaussian recursion on real data drawn with `seed`."""
    world = config.data
    return Experiment(
        name="gaussian",
        real=world.draw(seed),
        learner=GaussianLearner(config.truncate),
        views={"common": lambda model, seed: model.sample(world.size, seed=seed)},
        measure=lambda model, samples: _measure(model, samples, config),
    )


def _measure(model: GaussianModel, samples: Mapping[str, Any], config: GaussianArm) -> Measurement:  # noqa: ARG001
    world = config.data
    low, median, high = np.quantile(model.std, [0.1, 0.5, 0.9])
    positive = model.std > 0
    divergence = np.full(len(model.std), np.inf)
    divergence[positive] = gaussian_kl(model.mean[positive], model.std[positive], world.mean, world.std)
    metrics = {
        "std_median": float(median),
        "std_mean": float(model.std.mean()),
        "std_low": float(low),
        "std_high": float(high),
        "variance_mean": float((model.std**2).mean()),
        "std_real": world.std,
        "mean_abs_median": float(np.median(np.abs(model.mean - world.mean))),
        "kl_model_real_median": float(np.median(divergence)),
    }
    metrics |= _monte_carlo_errors(model.std) | _theory(config, model.generation)
    grid = world.mean + world.std * np.linspace(-4, 4, 161)
    width = max(float(model.std[0]), 0.02 * world.std)  # a collapsed one would lie between the grid points
    density = {
        "x": grid.tolist(),
        "model": norm.pdf(grid, model.mean[0], width).tolist(),
        "real": norm.pdf(grid, world.mean, world.std).tolist(),
    }
    return Measurement(metrics, {"density": density})


def _monte_carlo_errors(std: Floats) -> dict[str, float]:
    """Standard errors over chains of the mean variance and of the median of `std`; a single chain has none.

    The median's is half the distance between the order statistics sqrt(count) / 2 ranks to each side of it.
    """
    count = len(std)
    if count < 2:
        return {}
    below, above = np.quantile(std, [0.5 - 0.5 / count**0.5, 0.5 + 0.5 / count**0.5])
    return {
        "variance_mean_se": float((std**2).std(ddof=1) / count**0.5),
        "std_median_se": float((above - below) / 2),
    }


def _theory(config: GaussianArm, generation: int) -> dict[str, float]:
    """The closed forms of this arm, see `metrics.theory`; nothing where there are none."""
    size, std, truncate = config.data.size, config.data.std, config.truncate
    if isinstance(truncate, DensityTruncation):
        # Where generated values are all there is, the standard deviation falls to this floor.
        return {"std_theory": density_floor(truncate.threshold)} if isinstance(config.regime, Replace) else {}
    if isinstance(config.regime, Accumulate) and truncate is None:
        return {"variance_mean_theory": std**2 * accumulated_variance(size, generation)}
    if not isinstance(config.regime, Replace):
        return {}
    growth = 1.0 if truncate is None else variance_growth(truncate.width)
    growth_theory = {} if truncate is None else {"cut_growth_theory": growth}
    return {
        **growth_theory,
        "variance_mean_theory": std**2 * expected_variance(size, generation, growth=growth),
        "variance_mean_theory_se": std**2
        * expected_variance_error(size, generation, chains=config.data.chains, growth=growth),
        "std_theory": std * median_variance(size, generation, growth=growth) ** 0.5,
    }
