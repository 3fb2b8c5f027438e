"""Projections: counts of items simulated generation by generation, under drift, selection, fitness and migration.

Rule: the neutral case has the survival of `drift.copy_extinction`, which tests compare; everything else is the same
process with another mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailkeep.metrics.theory.drift import Migration
from tailkeep.metrics.theory.selection import SelectionKernel

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CountHistory:
    """Items (V,): their `real` counts, and the counts in each text that was measured, per as many tokens."""

    real: Floats
    texts: tuple[Floats, ...] = ()

    def take(self, items: NDArray[np.int64]) -> "CountHistory":
        """The items at `items`."""
        return CountHistory(self.real[items], tuple(text[items] for text in self.texts))


def mean_training_counts(history: CountHistory, migration: Migration) -> Floats:
    """(V,): the expected count of each item in what the next model is trained on, per as many tokens as real ones.

    For `regenerate` it is the last text, as in `replace`: parts that arrive later bring copies of their own.
    """
    if not history.texts:
        return history.real
    newest, share = history.texts[-1], migration.real_share
    match migration.regime:
        case "replace" | "regenerate":
            return newest
        case "accumulate" | "accumulate_subsample":
            pool = np.sum([history.real, *history.texts], axis=0)
            return np.asarray(pool / (len(history.texts) + 1))
        case "mix" | "weighted":
            return np.asarray(share * history.real + (1 - share) * newest)


def project_counts(
    history: CountHistory,
    kernels: Sequence[SelectionKernel],
    migration: Migration,
    rng: np.random.Generator,
    *,
    fitness: Floats | float = 1.0,
    exposure: float = 1.0,
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
        exposure: the size of each text, measured or projected, over that of the real one.
    """
    texts = [text.astype(np.float64) for text in history.texts]
    rounds = []
    for kernel in kernels:
        trained = _training_draw(history.real, texts, migration, exposure, rng)
        text = _draw(exposure * kernel.mean(trained, fitness), kernel.dispersion, rng)
        rounds.append(text)
        texts.append(text.astype(np.float64))
    return np.stack(rounds) if rounds else np.zeros((0, len(history.real)), np.int64)


def _training_draw(
    real: Floats, texts: Sequence[Floats], migration: Migration, exposure: float, rng: np.random.Generator
) -> Floats:
    """(V,): training counts per as many tokens as the real text has."""
    if not texts:
        return real
    newest, share, size = texts[-1], migration.real_share, 1 + exposure * len(texts)
    match migration.regime:
        case "replace" | "regenerate":
            return np.asarray(newest / exposure)
        case "accumulate":
            return np.asarray(np.sum([real, *texts], axis=0) / size)
        case "accumulate_subsample":
            pool = np.sum([real, *texts], axis=0)
            return np.asarray(rng.binomial(np.rint(pool).astype(np.int64), 1 / size), np.float64)
        case "mix":
            # A text no longer than its part is taken whole.
            parts = [(real, share), (newest, min(1.0, (1 - share) / exposure))]
            drawn_counts = [rng.binomial(np.rint(counts).astype(np.int64), part) for counts, part in parts]
            return np.asarray(np.sum(drawn_counts, axis=0, dtype=np.float64))
        case "weighted":
            return np.asarray(share * real + (1 - share) * newest / exposure)


def _draw(means: Floats, dispersion: float, rng: np.random.Generator) -> NDArray[np.int64]:
    if dispersion > 1:
        means = rng.gamma(means / (dispersion - 1), dispersion - 1)
    return np.asarray(rng.poisson(means))
