"""Metrics of generated images: two sets of feature vectors compared, and the classes that are still generated.

Rule: rows are examples, and the caller chooses the features.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.spatial.distance import cdist


def frechet_distance(features: ArrayLike, others: ArrayLike) -> float:
    """The squared Fréchet distance of the normal distributions fitted to two sets of features (n, d) and (m, d).

    |a - b|² + tr(A + B - 2 (A^½ B A^½)^½) with means a, b and covariances A, B (divided by n, maximum likelihood);
    Heusel et al. 2017 (arXiv 1706.08500) use the features of an Inception network. In the features' unit, squared.

    Raises:
        ValueError: the dimensions differ, a set has fewer than two rows, or a feature is not finite.
    """
    first, second = _sets(features, others, least=2)
    shift = first.mean(axis=0) - second.mean(axis=0)
    spread, other_spread = (np.atleast_2d(np.cov(rows.T, bias=True)) for rows in (first, second))
    root = _root(spread)
    cross = np.sqrt(_eigenvalues(root @ other_spread @ root)).sum()
    return max(0.0, float(shift @ shift + np.trace(spread) + np.trace(other_spread) - 2 * cross))


def precision_recall(real: ArrayLike, generated: ArrayLike, *, neighbours: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, equations 1 to 3).

    A set's manifold is the union of balls around its points, each as wide as the distance to the point's
    `neighbours`-th nearest neighbour in the set, itself not counted. Precision is the share of `generated` (m, d)
    within the manifold of `real` (n, d), recall the share of `real` within that of `generated`. Use as many of both.

    Raises:
        ValueError: the dimensions differ, a set has no more than `neighbours` rows, or a feature is not finite.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours must be >= 1, got {neighbours}.")
    first, second = _sets(real, generated, least=neighbours + 1)
    distances = cdist(first, second)
    within_real = (distances <= _radii(first, neighbours)[:, None]).any(axis=0)
    within_generated = (distances <= _radii(second, neighbours)[None, :]).any(axis=1)
    return float(within_real.mean()), float(within_generated.mean())


def manifold_coverage(real: ArrayLike, generated: ArrayLike, *, neighbours: int = 5) -> float:
    """The share of `real` (n, d) that has a `generated` (m, d) one within reach (Naeem et al. 2020, arXiv 2002.09797).

    A real point reaches as far as its `neighbours`-th nearest real neighbour, itself not counted. Unlike recall it does
    not take one stray generated point, whose own neighbours are far, for a wide manifold.

    Raises:
        ValueError: the dimensions differ, a set has no more than `neighbours` rows, or a feature is not finite.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours must be >= 1, got {neighbours}.")
    first, second = _sets(real, generated, least=neighbours + 1)
    nearest = cdist(first, second).min(axis=1)
    return float((nearest <= _radii(first, neighbours)).mean())


def _radii(points: NDArray[np.float64], neighbours: int) -> NDArray[np.float64]:
    # The nearest of all is the point itself, at distance 0.
    return np.asarray(np.partition(cdist(points, points), neighbours, axis=1)[:, neighbours])


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def _eigenvalues(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    # Rounding may give a positive semidefinite matrix negative eigenvalues.
    return np.asarray(np.maximum(eigh((matrix + matrix.T) / 2, eigvals_only=True), 0))


def _sets(one: ArrayLike, other: ArrayLike, *, least: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(f"features of shapes {first.shape} and {second.shape}. Give (n, d) and (m, d).")
    if min(len(first), len(second)) < least:
        raise ValueError(f"{len(first)} and {len(second)} rows. Give at least {least} of each.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a feature is not finite. Give numbers.")
    return first, second


# Classes of generated examples, from the counts of a classifier's predictions.


def class_entropy(counts: ArrayLike) -> float:
    """The entropy of the class shares in nats, from `counts` (k,); ln k if all are equally frequent.

    Raises:
        ValueError: a count is negative or not finite, or there is nothing to count.
    """
    shares = _shares(counts)
    present = shares[shares > 0]
    return abs(float((present * np.log(present)).sum()))


def classes_alive(counts: ArrayLike, *, share: float = 0.01) -> int:
    """How many classes have more than `share` of all examples, from `counts` (k,).

    Raises:
        ValueError: a count is negative or not finite, there is nothing to count, or the share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1), got {share}.")
    return int(np.count_nonzero(_shares(counts) > share))


def _shares(counts: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(counts, dtype=np.float64).ravel()
    if not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
        raise ValueError(f"counts must be finite, >= 0 and not all 0, got {values.tolist()}.")
    return np.asarray(values / values.sum())
