"""Closed forms of the recursion: the variance of a refitted normal distribution, and the error of least squares.

Rule for normals: `size` N values per generation, maximum likelihood, real variance 1; generation 0 is fitted to real
data. Other variances scale. Truncation drops the values nearest the mean (ForTIFAI, arXiv 2509.08972).

Rule for least squares: an error is E |w - w*|² in units of the first fit's, sigma² d / (T - d - 1), so generation 0 has
error 1. The design is fixed, its T rows are isotropic normal in d dimensions, and generated labels carry fresh noise.
`shares` (n,) holds the share of labels that each of n edits replaces; the error is that of the fit after the last.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import polygamma, psi
from scipy.stats import norm


def variance_growth(width: float) -> float:
    """eta(a) = 1 + a phi(a) / (1 - Phi(a)): the variance of a standard normal without |x| < a = `width`.

    Raises:
        ValueError: the width is negative or not finite.
    """
    if not 0 <= width < math.inf:
        raise ValueError(f"width must be a finite number >= 0 of standard deviations, got {width}.")
    # The ratio by logarithms: both densities underflow beyond 38 standard deviations.
    return 1.0 + width * math.exp(float(norm.logpdf(width) - norm.logsf(width)))


def balanced_width(size: int) -> float:
    """The a with (N - 1) / N * eta(a) = 1, at which the expected variance neither falls nor grows; about 1.2533 / N.

    It drops about one value in N, the most central. The *median* variance still falls, see `median_variance`.

    Raises:
        ValueError: fewer than 2 values.
    """
    _check_size(size)
    return float(brentq(lambda width: (size - 1) / size * variance_growth(width) - 1, 0.0, 2.0, xtol=1e-14))


def density_floor(threshold: float) -> float:
    """1 / (sqrt(2 pi) t) = 0.399 / t: below this width the fit's peak exceeds the density t, and truncation begins.

    Raises:
        ValueError: the threshold is not positive.
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be a density > 0, got {threshold}.")
    return float(norm.pdf(0)) / threshold


def expected_variance(size: int, generation: int, *, growth: float = 1.0) -> float:
    """((N - 1) / N * eta)^(n + 1): the mean variance where each generation fits only its predecessor's samples.

    Exact without truncation (`growth` 1); with relative truncation, to first order in 1 / N.

    Raises:
        ValueError: fewer than 2 values, or a negative generation.
    """
    _check_size(size, generation)
    return float(((size - 1) / size * growth) ** (generation + 1))


def expected_variance_error(size: int, generation: int, *, chains: int, growth: float = 1.0) -> float:
    """The standard error of the mean variance over `chains` chains: how far a simulation may differ.

    E (chi²_{N-1} / N)² = (N - 1)(N + 1) / N², so it is E variance * sqrt((((N + 1) / (N - 1))^(n + 1) - 1) / chains).
    It outgrows the mean: ever fewer chains carry the mean, and the sampled ones underestimate the spread.

    Raises:
        ValueError: fewer than 2 values, a negative generation, or no chain.
    """
    mean = expected_variance(size, generation, growth=growth)
    if chains < 1:
        raise ValueError(f"chains must be >= 1, got {chains}.")
    spread = math.expm1((generation + 1) * math.log((size + 1) / (size - 1)))
    return mean * math.sqrt(spread / chains)


def median_variance(size: int, generation: int, *, growth: float = 1.0) -> float:
    """The median variance of the same recursion, which falls faster than the mean, also if the mean is constant.

    ln variance is a sum of n + 1 independent ln(chi²_{N-1} / N). Its mean is psi((N - 1) / 2) + ln(2 / N) per
    generation; its median differs by a sixth of the third cumulant over the variance (Cornish and Fisher 1938).

    Raises:
        ValueError: fewer than 2 values, or a negative generation.
    """
    _check_size(size, generation)
    half = (size - 1) / 2
    step = float(psi(half)) + math.log(2 / size) + math.log(growth)
    skew = float(polygamma(2, half) / (6 * polygamma(1, half)))
    return math.exp((generation + 1) * step - skew)


def accumulated_variance(size: int, generation: int) -> float:
    """prod (1 - 1 / (N k²)) for k = 1 ... n + 1: the mean variance if every generation fits all data so far.

    Own derivation: N new values, sampled from the fit of k N, keep E variance up to 1 / (N (k + 1)²). Its limit is
    sin(pi / sqrt N) / (pi / sqrt N), 0.984 for N = 100.

    Raises:
        ValueError: fewer than 2 values, or a negative generation.
    """
    _check_size(size, generation)
    pools = np.arange(1, generation + 2, dtype=np.float64)
    return float(np.prod(1 - 1 / (size * pools**2)))


def _check_size(size: int, generation: int = 0) -> None:
    if size < 2:
        raise ValueError(f"size must be >= 2, got {size}.")
    if generation < 0:
        raise ValueError(f"generation must be >= 0, got {generation}.")


# Test errors of least squares on its own labels: closed forms, published bounds, and the limit of many rows.


EditPattern = Literal["disjoint", "overlapping", "anchored"]


def error_unit(rows: int, width: int, noise: float = 1.0) -> float:
    """sigma² d / (T - d - 1), the test error of one least-squares fit on `rows` T labels with `width` d coefficients.

    Raises:
        ValueError: T < d + 2, where the expected error is infinite.
    """
    if rows < width + 2:
        raise ValueError(
            f"{rows} rows for {width} coefficients: the expected error is infinite. Pass at least {width + 2} rows."
        )
    return noise**2 * width / (rows - width - 1)


def replaced_error(generation: int) -> float:
    """n + 1: each generation fits only the labels of the previous one, and adds its own noise (arXiv 2404.01413)."""
    return float(generation + 1)


def accumulated_error(generation: int) -> float:
    """sum of 1 / i² for i = 1 ... n + 1, below pi² / 6: all labels accumulate (arXiv 2404.01413)."""
    return float(np.sum(1.0 / np.arange(1, generation + 2, dtype=np.float64) ** 2))


def published_edit_error(shares: Sequence[float]) -> float:
    """1 + sum of the shares: the result of Theorem 1 of ToEdit (arXiv 2412.14689).

    w = w* + (X'X)^-1 X' (E_1 + sum M_i E_{i+1}), whose terms are independent and whose rows are exchangeable. It omits
    that an edited label carries the error of the model that generated it; `wide_edit_error` includes it.
    """
    _check_shares(shares)
    return 1.0 + float(sum(shares))


def published_edit_bound() -> float:
    """2: the first bound of Theorem 2 of ToEdit, for edits that never replace a label twice."""
    return 2.0


def published_decay_bound(rows: int, width: int, *, share: float, factor: float) -> float:
    """The second bound of Theorem 2 of ToEdit, for edits of `share`, `share * factor`, `share * factor²`, ...

    1 + sqrt(E tr (X'X)^-2) sqrt(T share) / (1 - eta) / unit. |M_i| = eta |M_{i-1}| is taken as Frobenius norms, roots
    of the numbers of edited labels, so eta = sqrt(factor). (X'X)^-1 is inverse Wishart:
    E tr (X'X)^-2 = d (T - 1) / ((T - d) (T - d - 1) (T - d - 3)).

    Raises:
        ValueError: T < d + 4, the share is not in (0, 1], or the factor not in (0, 1).
    """
    if rows < width + 4:
        raise ValueError(f"{rows} rows for {width} coefficients have no finite bound. Pass at least {width + 4} rows.")
    if not 0 < share <= 1 or not 0 < factor < 1:
        raise ValueError(f"share must be in (0, 1] and factor in (0, 1), got {share} and {factor}.")
    free = rows - width
    trace = width * (rows - 1) / (free * (free - 1) * (free - 3))
    return 1.0 + float(np.sqrt(trace * rows * share) / (1 - np.sqrt(factor))) / error_unit(rows, width)


def wide_edit_error(shares: Sequence[float], pattern: EditPattern) -> float:
    """The error of the recursion itself for T much larger than d; with fewer rows it is somewhat lower.

    Own derivation: X'M X / T is the share s times the identity, so the error e of the coefficients follows
    e' = s e + (noise of the edited labels) + (noise of the others). With v = E |e|²:

        overlapping  v' = v + 2 s - s²              no limit as edits continue; s = 1 is `replaced_error`
        anchored     v' = 1 + s² (v - 1) + 2 s - s²      converges to 1 + s (2 - s) / (1 - s²)
        disjoint     exact sum over the blocks; 2 exp(sum of s) - 1 for many small ones, above 2 from 41 % on

    Raises:
        ValueError: a share is outside [0, 1], or disjoint ones sum to more than 1.
    """
    _check_shares(shares)
    match pattern:
        case "overlapping":
            return 1.0 + sum(2 * share - share**2 for share in shares)
        case "anchored":
            error = 1.0
            for share in shares:
                error = 1.0 + share**2 * (error - 1.0) + 2 * share - share**2
            return error
        case "disjoint":
            return _disjoint(shares)


def _disjoint(shares: Sequence[float]) -> float:
    """The sum of squared coefficients of every independent noise: an edit adds s e minus the old noise of its block."""
    if sum(shares) > 1 + 1e-9:
        raise ValueError(f"disjoint shares must sum to at most 1, got {sum(shares)}.")
    sizes = np.asarray(shares, dtype=np.float64)
    growth = float(np.prod(1 + sizes))
    # Every later edit carries on what an edit adds.
    carried = growth / np.cumprod(1 + sizes)
    edited = float(np.sum(sizes * ((growth - carried) ** 2 + carried**2)))
    return edited + (1 - float(sizes.sum())) * growth**2


def _check_shares(shares: Sequence[float]) -> None:
    for share in shares:
        if not 0 <= share <= 1:
            raise ValueError(f"shares must be in [0, 1], got {share}.")


# The weight of real data in a mix with generated data.


def golden_weight(ratio: float) -> float:
    """(sqrt(k^2 + 4 k) - k) / 2 for k = n_real / n_generated: 0.618 at 1, towards 1 for much real data.

    The optimal weight of real data for estimating a mean over many generations (He, Xu and Cheng, arXiv 2502.18049).

    Raises:
        ValueError: `ratio` is not above 0.
    """
    if not ratio > 0:
        raise ValueError(f"ratio must be > 0, got {ratio}.")
    # This form keeps its digits for large k.
    return 2 / (1 + math.sqrt(1 + 4 / ratio))
