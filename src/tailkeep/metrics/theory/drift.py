"""Drift: how long an item survives if each generation is an unbiased sample of what the last one was trained on.

An item is anything that is counted: a word, an n-gram, a fact, a mode. Rule: copies are independent, so an item with
`c` real copies is absent from the text of round g with probability Q_g^c, where Q_g is that of a single copy. Round 1
is the text of the model that was trained on real data. Every text has as many tokens as the real data.

A copy in a training set has Poisson offspring of mean 1 in the text that the model writes (Galton and Watson's
branching process; Wright and Fisher's resampling with many items). `dispersion` is the variance of the offspring over
their mean; above 1 they are negative binomial, since rare words come in bursts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

DriftRegime = Literal["replace", "accumulate", "accumulate_subsample", "mix", "weighted", "regenerate"]
DRIFT_REGIMES: tuple[DriftRegime, ...] = get_args(DriftRegime)
_WITH_SHARE = ("mix", "weighted")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Migration:
    """How real data come back: what the model of each generation is trained on.

    replace: the last text. accumulate: the real data and all texts. accumulate_subsample: a random part of these, of
    the size of the real data. mix: a random `real_share` of the real data, resampled each generation, and a random
    part of the last text. weighted: both whole, in the shares `real_share` and 1 - `real_share`. regenerate: the last
    text and the next of `fractions` equal parts of the real data (ForTIFAI, arXiv 2509.08972).

    Raises:
        ValueError: a choice is out of range, or has no effect in this regime.
    """

    regime: DriftRegime = "replace"
    real_share: float = 0.0
    fractions: int = 1

    def __post_init__(self) -> None:
        if self.regime not in DRIFT_REGIMES:
            raise ValueError(f"regime must be one of {', '.join(DRIFT_REGIMES)}, got {self.regime!r}.")
        if not 0 <= self.real_share <= 1:
            raise ValueError(f"real_share must be in [0, 1], got {self.real_share}.")
        if self.real_share and self.regime not in _WITH_SHARE:
            raise ValueError(
                f"real_share has no effect in the regime {self.regime}. Use mix or weighted, or remove it."
            )
        if self.fractions < 1:
            raise ValueError(f"fractions must be >= 1, got {self.fractions}.")
        if self.fractions > 1 and self.regime != "regenerate":
            raise ValueError(f"fractions has no effect in the regime {self.regime}. Use regenerate.")


def copy_extinction(
    generations: int, migration: Migration = Migration(), *, mean: float = 1.0, dispersion: float = 1.0
) -> Floats:
    """Q_g (generations + 1,): the probability that round g has no copy that descends from one real copy; Q_0 = 0.

    With h(z) = exp(mean (z - 1)), the generating function of the offspring of one copy, and with Q_1 = h(0):

        replace               Q_g = h(Q_{g-1})
        mix, share s          Q_g(z) = (1 - s + s h(z)) Q_{g-1}(s + (1 - s) h(z)),    Q_g = Q_g(0)
        weighted, share s     Q_g(z) = h(z)^s Q_{g-1}(h(z)^(1-s))
        accumulate            u <- h(0)^(1/g), then u <- u h(u)^(1/i) for i = g - 1 ... 1
        accumulate_subsample  u <- 1 - 1/g + h(0)/g, then u <- u (1 - 1/i + h(u)/i) for i = g - 1 ... 1
        regenerate, F parts   the mean over parts j < F of the replaced Q_{g-j}, and 1 for a part that has not arrived

    Own derivation by conditioning on the last training set; `replace` is the classical recursion.

    Args:
        generations: the number of rounds.
        migration: how real data come back.
        mean: the expected number of offspring of a copy; 1 is drift alone.
        dispersion: variance over mean of the offspring, at least 1.

    Raises:
        ValueError: a number is out of range.
    """
    if generations < 0:
        raise ValueError(f"generations must be >= 0, got {generations}.")
    if not mean >= 0:
        raise ValueError(f"mean must be >= 0, got {mean}.")
    if not dispersion >= 1:
        raise ValueError(f"dispersion must be >= 1, got {dispersion}.")
    return np.array([0.0, *_extinctions(generations, migration, _offspring(mean, dispersion))])


Offspring = Callable[[float], float]


def _offspring(mean: float, dispersion: float) -> Offspring:
    """z -> E z^offspring of one copy."""
    if dispersion == 1:
        return lambda z: float(np.exp(mean * (z - 1)))
    extra = dispersion - 1
    return lambda z: float((1 + extra * (1 - z)) ** (-mean / extra))


def _extinctions(generations: int, migration: Migration, h: Offspring) -> list[float]:
    """Q_1 to Q_generations."""
    match migration.regime:
        case "replace" | "mix" | "weighted":
            return _mixed(generations, migration, h)
        case "regenerate":
            # A part that has not arrived has no copy.
            replaced, parts = _mixed(generations, Migration(), h), migration.fractions
            arrived = [replaced[max(0, last - parts + 1) : last + 1] for last in range(generations)]
            return [(sum(rounds) + parts - len(rounds)) / parts for rounds in arrived]
        case "accumulate" | "accumulate_subsample":
            of_pool = _of_pool if migration.regime == "accumulate" else _of_subsample
            return [of_pool(round_, h) for round_ in range(1, generations + 1)]


def _mixed(generations: int, migration: Migration, h: Offspring) -> list[float]:
    share, absent, z = migration.real_share, 1.0, 0.0
    extinctions = []
    for _ in range(generations):
        extinctions.append(float(absent * h(z)))
        if migration.regime == "weighted":
            absent, z = absent * h(z) ** share, h(z) ** (1 - share)
        else:
            absent, z = absent * (1 - share + share * h(z)), share + (1 - share) * h(z)
    return extinctions


def _of_pool(round_: int, h: Offspring) -> float:
    u = h(0) ** (1 / round_)
    for size in range(round_ - 1, 0, -1):
        u *= h(u) ** (1 / size)
    return float(u)


def _of_subsample(round_: int, h: Offspring) -> float:
    u = 1 - (1 - h(0)) / round_
    for size in range(round_ - 1, 0, -1):
        u *= 1 - (1 - h(u)) / size
    return float(u)


def survival(counts: ArrayLike, extinction: ArrayLike) -> Floats:
    """1 - Q^c: the probability that items with real `counts` (...,) are alive, for an `extinction` Q per copy."""
    q = np.asarray(extinction, np.float64)
    # Q^0 = 1 also for Q = 0: an item without copies is not alive.
    return np.asarray(1 - q ** np.asarray(counts, np.float64))


def required_real_share(counts: ArrayLike, weights: ArrayLike, target: float, generations: int) -> float:
    """The smallest real share of `mix` at which the share `target` of items is alive after so many `generations`.

    Args:
        counts, weights: (C,) real counts, and the number of items with each.
        target: a share of the items, in (0, 1).
        generations: the number of rounds.

    Returns:
        A share in [0, 1]; NaN if even the real data alone do not keep so many.

    Raises:
        ValueError: there is no item, or the target is not in (0, 1).
    """
    numbers = np.asarray(weights, np.float64)
    if not numbers.sum() > 0:
        raise ValueError("counts hold no item.")
    if not 0 < target < 1:
        raise ValueError(f"target must be in (0, 1), got {target}.")

    def excess(share: float) -> float:
        last = copy_extinction(generations, Migration("mix", share))[-1]
        return float(numbers @ survival(counts, last) / numbers.sum()) - target

    if excess(0.0) >= 0:
        return 0.0
    return float(brentq(excess, 0.0, 1.0, xtol=1e-6)) if excess(1.0) > 0 else float("nan")
