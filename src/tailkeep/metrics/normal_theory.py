"""The width of a normal distribution that is refitted to its own samples: closed forms.

Rule: `size` N values a generation, maximum likelihood, real variance 1; generation 0 has seen real data once. Variances
of another world scale by its own. Truncation drops the values nearest the mean (ForTIFAI, arXiv 2509.08972).
"""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import polygamma, psi
from scipy.stats import norm


def variance_growth(width: float) -> float:
    """eta(a) = 1 + a phi(a) / (1 - Phi(a)): the variance of a standard normal of which |x| < a = `width` is cut out.

    Raises:
        ValueError: the width is negative or not finite.
    """
    if not 0 <= width < math.inf:
        raise ValueError(f"a width of {width}. Give a number of standard deviations from 0 upward.")
    # The ratio by logarithms: both densities underflow beyond 38 standard deviations.
    return 1.0 + width * math.exp(float(norm.logpdf(width) - norm.logsf(width)))


def balanced_width(size: int) -> float:
    """The a with (N - 1) / N * eta(a) = 1, at which the expected variance neither falls nor grows; about 1.2533 / N.

    It drops about one value in N, the most central. The *median* variance still falls, see `median_variance`.

    Raises:
        ValueError: fewer than 2 values.
    """
    _require_size(size)
    return float(brentq(lambda width: (size - 1) / size * variance_growth(width) - 1, 0.0, 2.0, xtol=1e-14))


def density_floor(threshold: float) -> float:
    """1 / (sqrt(2 pi) t) = 0.399 / t: below this width the fit's peak exceeds the density t, and truncation begins.

    Raises:
        ValueError: the threshold is not positive.
    """
    if not threshold > 0:
        raise ValueError(f"a threshold of {threshold}. Give a density above 0.")
    return float(norm.pdf(0)) / threshold


def expected_variance(size: int, generation: int, *, growth: float = 1.0) -> float:
    """((N - 1) / N * eta)^(n + 1): the mean variance where each generation fits only its predecessor's samples.

    Exact without truncation (`growth` 1); with a relative cut, to first order in 1 / N.

    Raises:
        ValueError: fewer than 2 values, or a negative generation.
    """
    _require_size(size, generation)
    return float(((size - 1) / size * growth) ** (generation + 1))


def expected_variance_error(size: int, generation: int, *, lineages: int, growth: float = 1.0) -> float:
    """The standard error of the mean variance of so many `lineages`: what simulation may differ by.

    E (chi²_{N-1} / N)² = (N - 1)(N + 1) / N², so it is E variance * sqrt((((N + 1) / (N - 1))^(n + 1) - 1) / lineages).
    It outgrows the mean itself: ever fewer lineages carry it, and those that were drawn tell too small a spread.

    Raises:
        ValueError: fewer than 2 values, a negative generation, or no lineage.
    """
    mean = expected_variance(size, generation, growth=growth)
    if lineages < 1:
        raise ValueError(f"{lineages} lineages have no mean. Give 1 or more.")
    spread = math.expm1((generation + 1) * math.log((size + 1) / (size - 1)))
    return mean * math.sqrt(spread / lineages)


def median_variance(size: int, generation: int, *, growth: float = 1.0) -> float:
    """The median variance of the same recursion, which falls faster than the mean, and also where that stands still.

    ln variance is a sum of n + 1 independent ln(chi²_{N-1} / N). Its mean is psi((N - 1) / 2) + ln(2 / N) a generation;
    its median differs from that by a sixth of the third cumulant over the variance (Cornish and Fisher 1938).

    Raises:
        ValueError: fewer than 2 values, or a negative generation.
    """
    _require_size(size, generation)
    half = (size - 1) / 2
    step = float(psi(half)) + math.log(2 / size) + math.log(growth)
    skew = float(polygamma(2, half) / (6 * polygamma(1, half)))
    return math.exp((generation + 1) * step - skew)


def accumulated_variance(size: int, generation: int) -> float:
    """prod (1 - 1 / (N k²)) for k = 1 ... n + 1: the mean variance where every generation fits all data so far.

    Own derivation: N new values, drawn from the fit of k N, keep E variance but for 1 / (N (k + 1)²). Its limit is
    sin(pi / sqrt N) / (pi / sqrt N), .984 for N = 100.

    Raises:
        ValueError: fewer than 2 values, or a negative generation.
    """
    _require_size(size, generation)
    pools = np.arange(1, generation + 2, dtype=np.float64)
    return float(np.prod(1 - 1 / (size * pools**2)))


def _require_size(size: int, generation: int = 0) -> None:
    if size < 2:
        raise ValueError(f"{size} values have no variance. Give 2 or more.")
    if generation < 0:
        raise ValueError(f"generation {generation}. Give a number from 0 upward.")
