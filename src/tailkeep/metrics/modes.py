"""What a sample keeps of a mixture whose centres and weights are known.

Rule: a point belongs to its nearest centre, the first of several at the same distance.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist


def assign_modes(points: ArrayLike, centres: ArrayLike) -> NDArray[np.int64]:
    """For each of `points` (n, d) the index of the nearest of `centres` (k, d), by Euclidean distance; shape (n,).

    Raises:
        ValueError: the dimensions differ, or there is no centre.
    """
    return np.asarray(_distances(points, centres).argmin(axis=1), dtype=np.int64)


def mode_shares(points: ArrayLike, centres: ArrayLike, *, radius: float = np.inf) -> NDArray[np.float64]:
    """The share of `points` (n, d) that belong to each of `centres` (k, d) and lie within `radius` of it; shape (k,).

    With a finite radius the shares sum to less than 1 by what lies near no centre. All are 0 for no points.

    Raises:
        ValueError: the dimensions differ, there is no centre, or the radius is not positive.
    """
    if not radius > 0:
        raise ValueError(f"the radius is {radius}. Give a number above 0.")
    distances = _distances(points, centres)
    near = distances.min(axis=1) <= radius
    counts = np.bincount(distances.argmin(axis=1)[near], minlength=distances.shape[1])
    return counts / max(len(distances), 1)


def modes_alive(points: ArrayLike, centres: ArrayLike, weights: ArrayLike, *, radius: float, share: float = 0.2) -> int:
    """How many modes still live in `points` (n, d).

    A mode of `weights` (k,) lives if at least `share` times its true weight of all points belong to its centre and
    lie within `radius` of it.

    Raises:
        ValueError: the dimensions or lengths differ, the weights are no weights, or radius or share is not positive.
    """
    if not share > 0:
        raise ValueError(f"the share is {share}. Give a number above 0, or dead modes would count as alive.")
    shares = mode_shares(points, centres, radius=radius)
    true = _normalised(weights)
    if true.shape != shares.shape:
        raise ValueError(f"{shares.size} centres and {true.size} weights. Give one weight for each centre.")
    return int(np.count_nonzero((shares >= share * true) & (shares > 0)))


def weight_distance(weights: ArrayLike, others: ArrayLike) -> float:
    """The total variation distance between two sets of weights (k,), half the sum of |a - b|, each normalised first.

    Between 0 (the same) and 1 (nothing shared).

    Raises:
        ValueError: the lengths differ, or one is negative, not finite or sums to 0.
    """
    a, b = _normalised(weights), _normalised(others)
    if a.shape != b.shape:
        raise ValueError(f"{a.size} weights and {b.size} weights. Give two sets of the same length.")
    return float(0.5 * np.abs(a - b).sum())


def _distances(points: ArrayLike, centres: ArrayLike) -> NDArray[np.float64]:
    a, b = np.asarray(points, dtype=np.float64), np.asarray(centres, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or len(b) == 0:
        raise ValueError(f"points of shape {a.shape} and centres of shape {b.shape}. Give (n, d) and (k, d).")
    return np.asarray(cdist(a, b), dtype=np.float64)


def _normalised(weights: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(weights, dtype=np.float64).ravel()
    if not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
        raise ValueError(f"{values.tolist()} are no weights. Give numbers from 0 upward, not all 0.")
    return np.asarray(values / values.sum(), dtype=np.float64)
