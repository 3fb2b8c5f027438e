"""How far points in the plane have to be moved to become others.

Rule: directions are fixed, not drawn, so the same points give the same number.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import wasserstein_distance


def sliced_wasserstein(points: ArrayLike, others: ArrayLike, *, directions: int = 32) -> float:
    """The sliced 1-Wasserstein distance of `points` (n, 2) from `others` (m, 2), in their unit.

    The mean over `directions` evenly spaced through half a turn of the distance between the two sets' shadows on a line
    in that direction (Bonneel et al. 2015).

    Raises:
        ValueError: a set is empty, not in the plane or not finite, or there is no direction.
    """
    first, second = np.asarray(points, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if any(rows.ndim != 2 or rows.shape[1] != 2 or len(rows) == 0 for rows in (first, second)):
        raise ValueError(f"points of shapes {first.shape} and {second.shape}. Give (n, 2) and (m, 2).")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a point is not finite. Give numbers.")
    if directions < 1:
        raise ValueError(f"{directions} directions. Give 1 or more.")
    angles = np.pi * np.arange(directions) / directions
    axes = np.stack([np.cos(angles), np.sin(angles)])
    shadows = zip((first @ axes).T, (second @ axes).T, strict=True)
    return float(np.mean([wasserstein_distance(one, other) for one, other in shadows]))
