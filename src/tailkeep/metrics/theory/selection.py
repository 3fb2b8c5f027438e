"""Selection, and projections of counts that are simulated under drift, selection, fitness and migration.

A learner that smooths, or a decoder that truncates, gives rare items fewer copies than their share: E[c'] = exp(a + b
ln c), where an item that the model was trained on `c` times is written c' times in as many tokens. b = 1 is drift
alone; b > 1 removes the rare, b < 1 favours them. Rules: a fit reads counts up to `FIT_LIMIT` alone, since the frequent
words would decide it; beyond, the ratio E[c'] / c stays what it is there. The neutral projection has the survival of
`drift.copy_extinction`, which tests compare; everything else is the same process with another mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from tailkeep.metrics.theory.drift import Migration

Floats = NDArray[np.float64]

FIT_LIMIT = 100
"""The largest count that a fit reads."""
_FREQUENT = 1000.0
_MAX_STEPS, _TOLERANCE = 50, 1e-10


@dataclass(frozen=True, eq=False)
class CountMoments:
    """What a fit needs of pairs (trained count, written count), added up by the trained count.

    Attributes:
        counts: (C,) trained counts above 0; they need not be whole, since mixtures have means.
        types: (C,) the number of items with each.
        sums: (C, K) the sum of their written counts in each of K groups of documents.
        squares: (C,) the sum of the squares of their written counts over all groups.
        exposure: written tokens over trained tokens; 1 for texts of one size.
        group_shares: (K,) the share of the written tokens in each group; None for equal ones.
    """

    counts: Floats
    types: Floats
    sums: Floats
    squares: Floats
    exposure: float = 1.0
    group_shares: Floats | None = None

    @property
    def totals(self) -> Floats:
        """(C,): the sums over all groups."""
        return np.asarray(self.sums.sum(axis=1))

    @property
    def is_identified(self) -> bool:
        """Whether items of two trained counts are written, whichever group of documents is left out."""
        rest = self.totals[:, None] - self.sums
        return bool(((rest > 0).sum(axis=0) >= 2).all())

    def between(self, low: float, high: float) -> "CountMoments":
        """Those with a trained count from `low` to `high`."""
        inside = (self.counts >= low) & (self.counts <= high)
        return CountMoments(
            self.counts[inside],
            self.types[inside],
            self.sums[inside],
            self.squares[inside],
            self.exposure,
            self.group_shares,
        )


@dataclass(frozen=True)
class SelectionKernel:
    """How often an item is written that was trained on c times.

    Attributes:
        intercept, exponent: a and b of E[c'] = exp(a + b ln c).
        dispersion: variance over mean of the written count of one item, at least 1: words come in bursts.
        fitness_variance: the variance over items of their own factor of E[c'], whose mean is 1.
    """

    intercept: float = 0.0
    exponent: float = 1.0
    dispersion: float = 1.0
    fitness_variance: float = 0.0

    def mean(self, counts: ArrayLike, fitness: ArrayLike = 1.0) -> Floats:
        """E[c'] (...,) of items with trained `counts` (...,), 0 for 0, and their own factors `fitness` (...,)."""
        trained = np.asarray(counts, np.float64)
        log_ratio = self.intercept + (self.exponent - 1) * np.log(np.clip(trained, 1e-12, FIT_LIMIT))
        means = trained * np.exp(np.where(trained > 0, log_ratio, 0.0)) * np.asarray(fitness)
        # A text has only so many tokens: an item this frequent grows no further, whatever its factor, and will not die.
        return np.asarray(np.minimum(means, np.maximum(trained, _FREQUENT)))

    def shrunk(self, factor: float) -> "SelectionKernel":
        """The kernel whose ln(E[c'] / c) is `factor` times that of this one: 0 is drift alone."""
        return SelectionKernel(
            factor * self.intercept, 1 + factor * (self.exponent - 1), self.dispersion, self.fitness_variance
        )


@dataclass(frozen=True, eq=False)
class SelectionFit:
    """A fitted kernel with its uncertainty.

    Attributes:
        kernel: the estimate.
        covariance: (2, 2) of intercept and exponent, by the jackknife over groups of documents.
        types: the number of items that it was fitted on.
        groups: the number of groups of documents of the jackknife.
    """

    kernel: SelectionKernel
    covariance: Floats
    types: int
    groups: int

    @property
    def exponent_interval(self) -> tuple[float, float]:
        """The 95 % interval of b, by Student's t: normal quantiles cover 92 % with ten groups, 71 % with two."""
        half = float(student.ppf(0.975, self.groups - 1) * np.sqrt(self.covariance[1, 1]))
        return self.kernel.exponent - half, self.kernel.exponent + half

    def draw(self, rng: np.random.Generator) -> SelectionKernel:
        """A kernel from the normal approximation of the estimate's distribution."""
        noise = rng.multivariate_normal(np.zeros(2), self.covariance, method="eigh")
        return SelectionKernel(
            self.kernel.intercept + float(noise[0]),
            self.kernel.exponent + float(noise[1]),
            self.kernel.dispersion,
            self.kernel.fitness_variance,
        )


def fit_selection(moments: CountMoments, *, dispersion: float = 1.0) -> SelectionFit:
    """The kernel behind `moments` by Poisson regression on counts up to `FIT_LIMIT`, with a jackknife over groups.

    The Poisson score equations are unbiased whatever the variance, so bursts widen the interval and move nothing.
    Fitness takes what variance bursts leave (method of moments):
    v = max(0, sum of (c' - m)² - dispersion m, over sum of m²), m = E[c'].

    Args:
        moments: the pairs, in groups of whole documents of which at least 2 hold such items.
        dispersion: variance over mean of what one item's bursts do, from document frequencies.

    Raises:
        ValueError: fewer than two groups, or fewer than two counts of which items were written in every replicate.
    """
    low = moments.between(1e-12, FIT_LIMIT)
    if (holding := int((low.sums.sum(axis=0) > 0).sum())) == 1:
        raise ValueError(f"a jackknife needs at least 2 groups of documents, got {holding}. Give more documents.")
    if not low.is_identified:
        raise ValueError(
            f"items that the training text holds 1 to {FIT_LIMIT} times were written {low.totals.sum():.0f} times, of "
            f"{int((low.totals > 0).sum())} different counts there, which is too little for an exponent. Give more "
            "text, and of a model that was trained on it."
        )
    estimate = _poisson_regression(low, low.totals, low.exposure)
    columns = low.sums.shape[1]
    shares = np.full(columns, 1 / columns) if low.group_shares is None else low.group_shares
    # A group without text says nothing of how much groups differ.
    members = np.flatnonzero(shares > 0)
    groups = len(members)
    replicates = [
        _poisson_regression(low, low.totals - low.sums[:, group], low.exposure * (1 - shares[group]), start=estimate)
        for group in members
    ]
    deviations = np.stack(replicates) - np.mean(replicates, axis=0)
    covariance = (groups - 1) / groups * deviations.T @ deviations
    kernel = SelectionKernel(float(estimate[0]), float(estimate[1]))
    means = low.exposure * kernel.mean(low.counts)
    excess = low.squares - 2 * means * low.totals + low.types * means**2 - dispersion * means * low.types
    variance = max(0.0, float(excess.sum() / (low.types @ means**2)))
    return SelectionFit(
        SelectionKernel(kernel.intercept, kernel.exponent, dispersion, variance),
        covariance,
        int(low.types.sum()),
        groups,
    )


def _poisson_regression(moments: CountMoments, sums: Floats, exposure: float, start: Floats | None = None) -> Floats:
    """(intercept, exponent) of the greatest likelihood, by Newton's steps from drift alone or from `start`.

    Raises:
        ValueError: the steps do not converge.
    """
    logs = np.log(moments.counts)
    design = np.stack([np.ones_like(logs), logs], axis=1)
    offset = np.log(moments.types * exposure)
    if start is None:
        start = np.array([np.log(sums.sum() / (exposure * moments.types @ moments.counts)), 1.0])
    coefficients = np.asarray(start, np.float64)
    for _ in range(_MAX_STEPS):
        means = np.exp(np.clip(offset + design @ coefficients, -700, 700))
        step = np.linalg.lstsq(design.T @ (means[:, None] * design), design.T @ (sums - means), rcond=None)[0]
        # A long first step would overshoot where most items are gone.
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        coefficients = coefficients + step
        if np.abs(step).max() < _TOLERANCE:
            return np.asarray(coefficients)
    raise ValueError(f"the regression of written on trained counts did not converge in {_MAX_STEPS} steps.")


def posterior_fitness(
    kernel: SelectionKernel, trained: ArrayLike, written_counts: ArrayLike, *, exposure: float = 1.0
) -> tuple[Floats, Floats]:
    """The gamma distribution (shapes, scales), each (V,), of items' fitness once each was seen written.

    Fitness is Gamma(1/v, v) before. An item expected m times, in a text `exposure` times as long as what the model was
    trained on, and written c' times counts as m / d and c' / d independent bursts, d the dispersion:
    Gamma(1/v + c'/d, 1 / (1/v + m/d)), whose mean is the empirical Bayes estimate (gamma-Poisson; Robbins 1956).

    Raises:
        ValueError: the kernel has no fitness variance.
    """
    if not kernel.fitness_variance > 0:
        raise ValueError("every item has fitness 1 where fitness_variance is 0.")
    prior = 1 / kernel.fitness_variance
    expected = exposure * kernel.mean(trained) / kernel.dispersion
    bursts = np.asarray(written_counts, np.float64) / kernel.dispersion
    return prior + bursts, 1 / (prior + expected)


@dataclass(frozen=True, eq=False)
class CountHistory:
    """Items (V,): their `real` counts, and the counts in each text that was measured, in as many tokens as it has."""

    real: Floats
    texts: tuple[Floats, ...] = ()

    def take(self, items: NDArray[np.int64]) -> "CountHistory":
        """The items at `items`."""
        return CountHistory(self.real[items], tuple(text[items] for text in self.texts))


def mean_training_counts(history: CountHistory, migration: Migration, exposures: Sequence[float] = ()) -> Floats:
    """(V,): the expected count of each item in what the next model is trained on, per as many tokens as the real text.

    For `regenerate` it is the last text, as in `replace`: parts that arrive later bring copies of their own.

    Args:
        history: the items so far.
        migration: how real data come back.
        exposures: the size of each text over that of the real one; 1 where none is given.
    """
    if not history.texts:
        return history.real
    sizes = exposures or (1.0,) * len(history.texts)
    newest, size, share = history.texts[-1], sizes[-1], migration.real_share
    match migration.regime:
        case "replace" | "regenerate":
            return np.asarray(newest / size)
        case "accumulate" | "accumulate_subsample":
            return np.asarray(np.sum([history.real, *history.texts], axis=0) / (1 + sum(sizes)))
        case "mix":
            part, total = _mix_parts(share, size)
            return np.asarray((share * history.real + part * newest) / total)
        case "weighted":
            return np.asarray(share * history.real + (1 - share) * newest / size)


def _mix_parts(real_share: float, exposure: float) -> tuple[float, float]:
    """The part of a text that a mixture takes, and the size of the mixture: a text no longer than its part is whole."""
    part = min(1.0, (1 - real_share) / exposure)
    return part, real_share + part * exposure


def project_counts(
    history: CountHistory,
    kernels: Sequence[SelectionKernel],
    migration: Migration,
    rng: np.random.Generator,
    *,
    fitness: Floats | float = 1.0,
    exposures: Sequence[float] = (),
) -> NDArray[np.int64]:
    """Counts (generations, V) in the texts after those of `history`, one round per kernel.

    Each round: the training counts by `migration`, whole items drawn where it takes a random part; then written counts
    with mean kernel.mean(trained, fitness), Poisson or negative binomial with the kernel's dispersion.

    Args:
        history: the items so far.
        kernels: one per round.
        migration: how real data come back.
        rng: the random state.
        fitness: (V,), the items' own factors.
        exposures: the size of each measured text over that of the real one, 1 where none is given; projected texts are
            as long as the last of them says.
    """
    exposure = exposures[-1] if exposures else 1.0
    sizes = list(exposures[: len(history.texts)]) or [1.0] * len(history.texts)
    texts = [text.astype(np.float64) for text in history.texts]
    rounds = []
    for kernel in kernels:
        trained = _training_draw(CountHistory(history.real, tuple(texts)), migration, sizes, rng)
        text = _draw(exposure * kernel.mean(trained, fitness), kernel.dispersion, rng)
        rounds.append(text)
        texts.append(text.astype(np.float64))
        sizes.append(exposure)
    return np.stack(rounds) if rounds else np.zeros((0, len(history.real)), np.int64)


def _training_draw(
    history: CountHistory, migration: Migration, sizes: Sequence[float], rng: np.random.Generator
) -> Floats:
    """(V,): training counts per as many tokens as the real text has, whole items where a random part is taken."""
    real, texts = history.real, history.texts
    if migration.regime == "accumulate_subsample" and texts:
        pool = np.rint(np.sum([real, *texts], axis=0)).astype(np.int64)
        return np.asarray(rng.binomial(pool, 1 / (1 + sum(sizes))), np.float64)
    if migration.regime == "mix" and texts:
        part, total = _mix_parts(migration.real_share, sizes[-1])
        parts = [(real, migration.real_share), (texts[-1], part)]
        taken = [rng.binomial(np.rint(counts).astype(np.int64), share) for counts, share in parts]
        return np.asarray(np.sum(taken, axis=0, dtype=np.float64) / total)
    return mean_training_counts(history, migration, sizes)


def _draw(means: Floats, dispersion: float, rng: np.random.Generator) -> NDArray[np.int64]:
    if dispersion > 1:
        means = rng.gamma(means / (dispersion - 1), dispersion - 1)
    return np.asarray(rng.poisson(means))
