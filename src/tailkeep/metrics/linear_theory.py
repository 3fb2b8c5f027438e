"""Test errors of least squares on its own labels: closed forms, published bounds, and the limit of wide data.

Rule: an error is E |w - w*|² in units of the first fit's own, sigma² d / (T - d - 1); generation 0 has 1. The design is
fixed, its T rows are isotropic normal in d dimensions, and labels carry fresh noise each time they are written.

`shares` (n,) holds the share of labels that each of n edits rewrites; the error is that of the fit after the last.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Places = Literal["disjoint", "overlapping", "anchored"]


def error_unit(rows: int, width: int, noise: float = 1.0) -> float:
    """sigma² d / (T - d - 1), the test error of one least-squares fit on `rows` T labels with `width` d coefficients.

    Raises:
        ValueError: T < d + 2, where the expected error is infinite.
    """
    if rows < width + 2:
        raise ValueError(
            f"{rows} rows for {width} coefficients: the expected error is infinite. Give {width + 2} or more."
        )
    return noise**2 * width / (rows - width - 1)


def replaced_error(generation: int) -> float:
    """n + 1: each generation fits only what the last one wrote, and adds its own noise (arXiv 2404.01413)."""
    return float(generation + 1)


def accumulated_error(generation: int) -> float:
    """sum of 1 / i² for i = 1 ... n + 1, below pi² / 6: all labels ever written are kept (arXiv 2404.01413)."""
    return float(np.sum(1.0 / np.arange(1, generation + 2, dtype=np.float64) ** 2))


def published_edit_error(shares: Sequence[float]) -> float:
    """1 + sum of the shares: what Theorem 1 of ToEdit (arXiv 2412.14689) comes to.

    w = w* + (X'X)^-1 X' (E_1 + sum M_i E_{i+1}), whose terms are independent and whose rows are exchangeable. It leaves
    out that an edited label carries the error of the model that wrote it; `wide_edit_error` has that.
    """
    _require_shares(shares)
    return 1.0 + float(sum(shares))


def published_edit_bound() -> float:
    """2: the first bound of Theorem 2 of ToEdit, for edits that never touch a label twice."""
    return 2.0


def published_decay_bound(rows: int, width: int, *, share: float, factor: float) -> float:
    """The second bound of Theorem 2 of ToEdit, for edits of `share`, `share * factor`, `share * factor²`, ...

    1 + sqrt(E tr (X'X)^-2) sqrt(T share) / (1 - eta) / unit. |M_i| = eta |M_{i-1}| is read as Frobenius norms, roots
    of the numbers of edited labels, so eta = sqrt(factor). (X'X)^-1 is inverse Wishart:
    E tr (X'X)^-2 = d (T - 1) / ((T - d) (T - d - 1) (T - d - 3)).

    Raises:
        ValueError: T < d + 4, the share is not in (0, 1], or the factor not in (0, 1).
    """
    if rows < width + 4:
        raise ValueError(f"{rows} rows for {width} coefficients have no finite bound. Give {width + 4} or more.")
    if not 0 < share <= 1 or not 0 < factor < 1:
        raise ValueError(f"a share of {share} and a factor of {factor}. Give 0 < share <= 1 and 0 < factor < 1.")
    free = rows - width
    trace = width * (rows - 1) / (free * (free - 1) * (free - 3))
    return 1.0 + float(np.sqrt(trace * rows * share) / (1 - np.sqrt(factor))) / error_unit(rows, width)


def wide_edit_error(shares: Sequence[float], places: Places) -> float:
    """The error of the recursion itself where T is large against d; with fewer rows it lies somewhat below.

    Own derivation: X'M X / T is the share s times the identity, so the error e of the coefficients follows
    e' = s e + (noise of the edited labels) + (noise of the others). With v = E |e|²:

        overlapping  v' = v + 2 s - s²              no limit while edits go on; s = 1 is `replaced_error`
        anchored     v' = 1 + s² (v - 1) + 2 s - s²      settles at 1 + s (2 - s) / (1 - s²)
        disjoint     exact sum over the blocks; 2 exp(sum of s) - 1 for many small ones, above 2 from 41 % on

    Raises:
        ValueError: a share is outside [0, 1], or disjoint ones sum to more than 1.
    """
    _require_shares(shares)
    match places:
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
    """The sum of squared coefficients of every independent noise: an edit adds s e, less the old noise of its block."""
    if sum(shares) > 1 + 1e-9:
        raise ValueError(f"disjoint shares that sum to {sum(shares)}. Give shares that sum to 1 or less.")
    sizes = np.asarray(shares, dtype=np.float64)
    growth = float(np.prod(1 + sizes))
    # What an edit adds is carried on by every later one.
    carried = growth / np.cumprod(1 + sizes)
    edited = float(np.sum(sizes * ((growth - carried) ** 2 + carried**2)))
    return edited + (1 - float(sizes.sum())) * growth**2


def _require_shares(shares: Sequence[float]) -> None:
    for share in shares:
        if not 0 <= share <= 1:
            raise ValueError(f"a share of {share}. Give numbers from 0 to 1.")
