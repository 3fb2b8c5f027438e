"""From counts of two texts to a kernel, and from a kernel to survival by band.

A kernel is what the learner and the decoder do to rare items. Drift alone is exact; a fitted kernel is simulated with
its uncertainty. Rule: survival in round g is the share of a band's real items that the text of round g holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binom

from tailkeep.forecast.counts import BANDS, CountBand, Floats, RoundPairs
from tailkeep.metrics import (
    CountHistory,
    CountMoments,
    Migration,
    SelectionFit,
    SelectionKernel,
    copy_extinction,
    fit_selection,
    mean_training_counts,
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
    over chains with `mean` and `spread`. `rate_spread` is the standard deviation of an extra ln rate per chain, for
    what no kernel of counts holds.
    """

    mean: float
    spread: float
    rate_spread: float

    def draw(self, kernel: SelectionKernel, rng: np.random.Generator, *, first_round: bool) -> SelectionKernel:
        """The kernel of the later rounds of one chain."""
        if first_round:
            kernel = kernel.shrunk(max(0.0, float(rng.normal(self.mean, self.spread))))
        return replace(kernel, intercept=kernel.intercept + float(rng.normal(0.0, self.rate_spread)))


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
    """

    fit: SelectionFit
    ranges: Mapping[tuple[int, int], tuple[float, float, float]]
    alive: Mapping[CountBand, float]
    drift: Mapping[CountBand, float]
    types: Mapping[CountBand, int]


def fit_round(pairs: RoundPairs) -> RoundFit:
    """Fit the kernel of a round.

    Raises:
        ValueError: there is too little text.
    """
    moments, dispersion = pairs.moments(), pairs.dispersion()
    ranges = {}
    for low, high in RANGES:
        part = moments.between(low, high)
        if _can_fit(part):
            fit = fit_selection(part, dispersion=dispersion)
            ranges[low, high] = (fit.kernel.exponent, *fit.exponent_interval)
    types = {band: pairs.band_types(band) for band in BANDS}
    first = copy_extinction(1, mean=min(pairs.exposure, 1.0))[-1]
    drift = {
        band: sum(number * float(survival(count, first)) for count, number in band.part_of(pairs.types).items())
        / max(types[band], 1)
        for band in BANDS
    }
    alive = {band: pairs.alive[band] / max(types[band], 1) for band in BANDS}
    return RoundFit(fit_selection(moments, dispersion=dispersion), ranges, alive, drift, types)


def _can_fit(moments: CountMoments) -> bool:
    return len(moments.counts) >= 2 and int((moments.sums.sum(axis=0) > 0).sum()) >= 2


def draw_fitness(
    kernel: SelectionKernel, trained: Floats, counts: Floats, exposure: float, rng: np.random.Generator
) -> Floats | float:
    """One draw of each item's fitness (V,) given the text in which it occurs `counts` times; 1 without variance."""
    if not kernel.fitness_variance > 1e-6:
        return 1.0
    # In a text of another size an item's burst counts for that size.
    shapes, scales = posterior_fitness(kernel, trained, counts / exposure)
    return np.asarray(rng.gamma(shapes, scales))


@dataclass(frozen=True, eq=False)
class NeutralSurvival:
    """Drift alone in one band: `quantiles` (generations, 5) at `LEVELS`, of `types` items."""

    band: CountBand
    migration: Migration
    types: int
    quantiles: Floats


def neutral_survival(spectrum: Mapping[int, int], migration: Migration, generations: int) -> list[NeutralSurvival]:
    """Drift alone by band, from the number of items by count; bands without items are left out.

    Items are independent, so the number alive is binomial, exactly so if all items of the band have one count.
    """
    extinction = copy_extinction(generations, migration)[1:]
    results = []
    for band in BANDS:
        inside = sorted(band.part_of(spectrum).items())
        if not inside:
            continue
        counts, numbers = np.array(inside, np.float64).T
        p = survival(counts[None], extinction[:, None])
        types = numbers.sum()
        quantiles = binom.ppf(LEVELS, types, (p @ numbers / types)[:, None]) / types
        results.append(NeutralSurvival(band, migration, int(types), quantiles))
    return results


@dataclass(frozen=True, eq=False)
class MeasuredItems:
    """Items of one band with their measured counts.

    Attributes:
        history: their counts.
        independent: how many independent items the band is worth, see `RoundPairs.design_effect`.
        exposure: the size of the last text over that of the real one.
    """

    history: CountHistory
    independent: int
    exposure: float = 1.0

    @classmethod
    def of(cls, pairs: RoundPairs, band: CountBand) -> "MeasuredItems":
        """The items of `band` in `pairs`."""
        columns = pairs.sample(band)
        independent = max(1, round(len(columns[0]) / pairs.design_effect(band)))
        return cls(CountHistory(columns[0], tuple(columns[1:])), independent, pairs.exposure)

    @classmethod
    def of_tail(cls, pairs: RoundPairs, max_count: int) -> "MeasuredItems | None":
        """A sample of the items that occur at most `max_count` times, of each band in proportion; None without any."""
        bands = [band for band in BANDS if band.last <= max_count and pairs.band_types(band)]
        if not bands:
            return None
        parts = [cls.of(pairs, band) for band in bands]
        types = [pairs.band_types(band) for band in bands]
        rate = min(len(part.history.real) / number for part, number in zip(parts, types, strict=True))
        histories = [
            part.history.take(np.arange(max(1, int(rate * number)))) for part, number in zip(parts, types, strict=True)
        ]
        texts = [np.concatenate(columns) for columns in zip(*(history.texts for history in histories), strict=True)]
        real = np.concatenate([history.real for history in histories])
        share = sum(part.independent for part in parts) / sum(len(part.history.real) for part in parts)
        return cls(CountHistory(real, tuple(texts)), max(1, round(share * len(real))), pairs.exposure)

    def resample(self, rng: np.random.Generator) -> CountHistory:
        """`independent` items at random; all of them once where each is independent."""
        size = len(self.history.real)
        if self.independent >= size:
            return self.history
        return self.history.take(rng.integers(0, size, self.independent))


def forecast_survival(
    items: MeasuredItems,
    fit: SelectionFit,
    migration: Migration,
    generations: int,
    *,
    shrinkage: Shrinkage,
    draws: int,
    rng: np.random.Generator,
    fit_migration: Migration | None = None,
) -> Floats:
    """(draws, generations): the share of `items` alive in each round after the last measured one.

    A draw has one kernel from the fit's distribution, one shrinkage, as many items as are independent, one fitness per
    item, and one simulated chain.
    `fit_migration` is the regime under which the texts were written, by default the one that goes on.
    """
    shares = np.empty((draws, generations))
    for draw in range(draws):
        history = items.resample(rng)
        before = CountHistory(history.real, history.texts[:-1])
        trained = mean_training_counts(before, fit_migration or migration)
        drawn_kernel = fit.draw(rng)
        fitness = draw_fitness(drawn_kernel, trained, history.texts[-1], items.exposure, rng)
        kernel = shrinkage.draw(drawn_kernel, rng, first_round=len(history.texts) == 1)
        shares[draw] = _alive_shares(history, items.exposure, [kernel] * generations, migration, fitness, rng)
    return shares


def _alive_shares(
    history: CountHistory,
    exposure: float,
    kernels: Sequence[SelectionKernel],
    migration: Migration,
    fitness: Floats | float,
    rng: np.random.Generator,
) -> Floats:
    """(generations,): the share of items alive in one simulated chain, in texts as long as the last measured one.

    Texts longer than the real one are cut to its size.
    """
    if exposure > 1:
        thinned = rng.binomial(np.rint(history.texts[-1]).astype(np.int64), 1 / exposure).astype(np.float64)
        history, exposure = CountHistory(history.real, (*history.texts[:-1], thinned)), 1.0
    counts = project_counts(history, kernels, migration, rng, fitness=fitness, exposure=exposure)
    return np.asarray((counts > 0).mean(axis=1))


def drift_survival(items: MeasuredItems, migration: Migration, generations: int, rng: np.random.Generator) -> Floats:
    """(generations,): what drift alone leaves of `items` after the last measured text; the mean of simulated chains."""
    repeats = max(1, 4000 // max(len(items.history.real), 1))
    tiled = items.history.take(np.tile(np.arange(len(items.history.real)), repeats))
    return _alive_shares(tiled, items.exposure, [SelectionKernel()] * generations, migration, 1.0, rng)


def required_share_by_fit(
    items: MeasuredItems,
    fit: SelectionFit,
    keep: float,
    generations: int,
    *,
    shrinkage: Shrinkage,
    draws: int,
    seed: int,
) -> tuple[float, float, float]:
    """The real share of `mix` that keeps the share `keep` of `items`: the median and the 90 % interval over draws.

    NaN where even real data alone do not keep so many.
    """
    shares = np.linspace(0, 1, 21)
    # The same random numbers at every share, so that survival rises with it.
    last = np.stack(
        [
            forecast_survival(
                items,
                fit,
                Migration("mix", float(share)),
                generations,
                shrinkage=shrinkage,
                draws=draws,
                rng=np.random.default_rng(seed),
                fit_migration=Migration(),
            )[:, -1]
            for share in shares
        ],
        axis=1,
    )
    rising = np.maximum.accumulate(last, axis=1)
    required = np.array([_first_reaching(shares, row, keep) for row in rising])
    low, middle, high = (float(np.quantile(required, level, method="nearest")) for level in LEVELS[::2])
    return tuple(value if np.isfinite(value) else float("nan") for value in (middle, low, high))  # type: ignore[return-value]


def _first_reaching(shares: Floats, rising: Floats, keep: float) -> float:
    if rising[-1] < keep:
        return float("inf")
    index = int(np.argmax(rising >= keep))
    if index == 0:
        return 0.0
    low, high = rising[index - 1], rising[index]
    return float(shares[index - 1] + (shares[index] - shares[index - 1]) * (keep - low) / (high - low))
