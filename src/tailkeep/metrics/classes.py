"""How many classes generated examples still show, from the counts of a classifier's answers."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def class_entropy(counts: ArrayLike) -> float:
    """The entropy of the classes' shares in nats, from `counts` (k,); ln k if all are equally frequent.

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
        raise ValueError(f"the share is {share}. Give a number from 0 to below 1.")
    return int(np.count_nonzero(_shares(counts) > share))


def _shares(counts: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(counts, dtype=np.float64).ravel()
    if not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
        raise ValueError(f"{values.tolist()} are no counts. Give numbers from 0 upward, not all 0.")
    return np.asarray(values / values.sum())
