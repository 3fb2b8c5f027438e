"""From counts of two texts to a kernel: what the learner and the decoder do to rare items, and what is lost by it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tailkeep.forecast.counts import BANDS, CountBand, Floats, RoundPairs
from tailkeep.metrics import (
    CountMoments,
    SelectionFit,
    SelectionKernel,
    copy_extinction,
    fit_selection,
    posterior_fitness,
    survival,
)

RANGES = ((1, 10), (11, 100))
"""Counts for which the exponent is also fitted apart: a line that bends has two."""


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
        band: sum(
            number * float(survival(count, first))
            for count, number in pairs.types.items()
            if band.first <= count <= band.last
        )
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
