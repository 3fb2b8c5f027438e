"""From counts of two texts to a kernel, and from a kernel to survival by band.

A kernel is what the learner and the decoder do to rare items. Drift alone is exact; a fitted kernel is simulated with
its uncertainty. Rule: survival in round g is the share of a band's real items that the text of round g holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri
from scipy.stats import binom

from tailkeep.forecast.counts import BANDS, CountBand, Floats, RoundPairs
from tailkeep.metrics import (
    CountHistory,
    Migration,
    SelectionFit,
    SelectionKernel,
    copy_extinction,
    fit_selection,
    posterior_fitness,
    project_counts,
    survival,
)

RANGES = ((1, 10), (11, 100))
"""Counts for which the exponent is also fitted apart: a line that bends has two."""
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles of a forecast: the median, and the ends of the central 50 and 90 % intervals."""


@dataclass(frozen=True)
class Shrinkage:
    """How the kernel of the first round relates to those of later ones: constants that the validation page records.

    The first round also holds what was never learnt. Later rounds have the kernel with ln(E[c'] / c) times rho, normal
    over chains with `mean` and `spread`, but at least 0. `rate_spread` is the standard deviation of an extra ln rate
    per chain, for what no kernel of counts holds.
    """

    mean: float
    spread: float
    rate_spread: float

    def later(self, kernel: SelectionKernel, deviations: Sequence[float], *, first_round: bool) -> SelectionKernel:
        """The kernel of the later rounds of a chain whose rho and rate lie so many standard `deviations` off."""
        rho, rate = deviations
        if first_round:
            kernel = kernel.shrunk(max(0.0, self.mean + self.spread * rho))
        return replace(kernel, intercept=kernel.intercept + self.rate_spread * rate)


SHRINKAGE = Shrinkage(mean=-0.50, spread=0.20, rate_spread=0.6)


@dataclass(frozen=True, eq=False)
class RoundFit:
    """The kernel of one round.

    Attributes:
        fit: on all counts up to 100.
        ranges: the exponent with its 95 % interval by range of counts; a range with too little text is missing.
        alive: by band, the share of real items that the text holds.
        drift: by band, the share that drift alone would leave after one round, in no more text than the real one.
        types: by band, the number of real items.
        independent: by band, how many independent items they are worth, see `RoundPairs.design_effect`.
    """

    fit: SelectionFit
    ranges: Mapping[tuple[int, int], tuple[float, float, float]]
    alive: Mapping[CountBand, float]
    drift: Mapping[CountBand, float]
    types: Mapping[CountBand, int]
    independent: Mapping[CountBand, int]


def fit_round(pairs: RoundPairs) -> RoundFit:
    """Fit the kernel of a round.

    Raises:
        ValueError: there is too little text.
    """
    moments, dispersion = pairs.moments(), pairs.dispersion()
    ranges = {}
    for low, high in RANGES:
        part = moments.between(low, high)
        if part.is_identified:
            fit = fit_selection(part, dispersion=dispersion)
            ranges[low, high] = (fit.kernel.exponent, *fit.exponent_interval)
    types = {band: pairs.band_types(band) for band in BANDS}
    first = copy_extinction(1, mean=min(pairs.exposure, 1.0))[-1]
    drift = {
        band: sum(number * float(survival(count, first)) for count, number in band.part_of(pairs.types).items())
        / max(types[band], 1)
        for band in BANDS
    }
    alive = {band: pairs.alive(band) / max(types[band], 1) for band in BANDS}
    independent = {band: pairs.independent_types(band) for band in BANDS}
    return RoundFit(fit_selection(moments, dispersion=dispersion), ranges, alive, drift, types, independent)


@dataclass(frozen=True, eq=False)
class NeutralSurvival:
    """Drift alone in one band: `quantiles` (generations, 5) at `LEVELS`, of `types` items."""

    band: CountBand
    types: int
    quantiles: Floats


def neutral_survival(
    spectrum: Mapping[int, int], migration: Migration, generations: int, bands: Sequence[CountBand] = BANDS
) -> list[NeutralSurvival]:
    """Drift alone by band, from the number of items by count; bands without items are left out.

    Items are independent, so the number alive is binomial, exactly so if all items of the band have one count.
    """
    extinction = copy_extinction(generations, migration)[1:]
    results = []
    for band in dict.fromkeys(bands):
        inside = sorted(band.part_of(spectrum).items())
        if not inside:
            continue
        counts, numbers = np.array(inside, np.float64).T
        p = survival(counts[None], extinction[:, None])
        types = numbers.sum()
        quantiles = binom.ppf(LEVELS, types, (p @ numbers / types)[:, None]) / types
        results.append(NeutralSurvival(band, int(types), quantiles))
    return results


@dataclass(frozen=True, eq=False)
class MeasuredItems:
    """Items (V,) of one band with their measured counts.

    Attributes:
        history: their counts.
        trained: their counts in what the model of the last text was trained on, per as many tokens as the real text.
        independent: how many independent items they stand for, at most V: what the whole band is worth.
        exposures: the size of each text over that of the real one.
    """

    history: CountHistory
    trained: Floats
    independent: int
    exposures: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, pairs: RoundPairs, band: CountBand) -> "MeasuredItems":
        """The items of `band` in `pairs`."""
        real, trained, *texts = pairs.sample(band)
        independent = min(len(real), pairs.independent_types(band))
        return cls(CountHistory(real, tuple(texts)), trained, independent, (*pairs.earlier_exposures, pairs.exposure))

    def resample(self, rng: np.random.Generator) -> "MeasuredItems":
        """`independent` items at random; all of them once where each is independent."""
        size = len(self.trained)
        if self.independent >= size:
            return self
        items = rng.integers(0, size, self.independent)
        return replace(self, history=self.history.take(items), trained=self.trained[items])

    def draw_fitness(self, kernel: SelectionKernel, rng: np.random.Generator) -> Floats | float:
        """One draw of each item's fitness (V,) given its count in the last text; 1 without variance."""
        if not kernel.fitness_variance > 1e-6:
            return 1.0
        newest = self.history.texts[-1]
        shapes, scales = posterior_fitness(kernel, self.trained, newest, exposure=self.exposures[-1])
        return np.asarray(rng.gamma(shapes, scales))


def forecast_survival(
    items: MeasuredItems,
    fit: SelectionFit,
    migration: Migration,
    generations: int,
    *,
    shrinkage: Shrinkage,
    draws: int,
    rng: np.random.Generator,
) -> Floats:
    """(draws, generations): the share of `items` alive in each round after the last measured one.

    A draw has one kernel from the fit's distribution, one shrinkage, as many items as are independent, one fitness per
    item, and one simulated chain. The draws share out the normal distributions of the shrinkage evenly: most of the
    spread is theirs, and a median should not hang on the seed.
    """
    shares = np.empty((draws, generations))
    deviations = np.stack([_even_normals(draws, rng) for _ in range(2)], axis=1).tolist()
    for draw in range(draws):
        sample = items.resample(rng)
        kernel = fit.draw(rng)
        fitness = sample.draw_fitness(kernel, rng)
        later = shrinkage.later(kernel, deviations[draw], first_round=len(items.history.texts) == 1)
        shares[draw] = _alive_shares(sample, [later] * generations, migration, fitness, rng)
    return shares


def _even_normals(size: int, rng: np.random.Generator) -> Floats:
    """(size,): standard normal numbers in random order, one from each of `size` equally probable intervals."""
    return np.asarray(ndtri((rng.permutation(size) + rng.random(size)) / size))


def _alive_shares(
    items: MeasuredItems,
    kernels: Sequence[SelectionKernel],
    migration: Migration,
    fitness: Floats | float,
    rng: np.random.Generator,
) -> Floats:
    """(generations,): the share of items alive in one simulated chain, in texts as long as the last measured one.

    Texts longer than the real one are cut to its size.
    """
    history, exposures = items.history, items.exposures
    if exposures[-1] > 1:
        thinned = rng.binomial(np.rint(history.texts[-1]).astype(np.int64), 1 / exposures[-1]).astype(np.float64)
        history, exposures = CountHistory(history.real, (*history.texts[:-1], thinned)), (*exposures[:-1], 1.0)
    counts = project_counts(history, kernels, migration, rng, fitness=fitness, exposures=exposures)
    return np.asarray((counts > 0).mean(axis=1))


def drift_survival(items: MeasuredItems, migration: Migration, generations: int, rng: np.random.Generator) -> Floats:
    """(generations,): what drift alone leaves of `items` after the last measured text; the mean of simulated chains."""
    size = len(items.trained)
    copies = np.tile(np.arange(size), max(1, 4000 // max(size, 1)))
    repeated = replace(items, history=items.history.take(copies), trained=items.trained[copies])
    return _alive_shares(repeated, [SelectionKernel()] * generations, migration, 1.0, rng)
