"""Drawing by weight, and how many draws a set of weights is worth. Weights are handed over as logarithms.

Rule: a draw is a function of the weights and the generator, and what has no weight is never drawn.
"""

import math

import numpy as np
from numpy.typing import NDArray


def draw_by_weight(
    log_weights: NDArray[np.float64], size: int, rng: np.random.Generator, *, copies: int = 1
) -> NDArray[np.int64]:
    """`size` indices in ascending order, drawn without replacement from `copies` copies of each item.

    The largest of ln w + a Gumbel number each (Gumbel top-k): the first is i with the chance w_i / sum w, the next is
    drawn likewise from what is left. Where too few items have a weight for that, there are as many copies of each as
    it takes.

    Args:
        log_weights: (n,) natural logarithms, -inf for an item without weight; at least one is finite.
        size: how many, at least 0.
    """
    able = np.flatnonzero(log_weights > -np.inf)
    assert len(able), "an item with a weight"
    owners = np.repeat(able, max(copies, math.ceil(size / len(able))))
    keys = log_weights[owners] + rng.gumbel(size=len(owners))
    return np.sort(owners[np.argsort(-keys, kind="stable")[:size]])


def effective_size(log_weights: NDArray[np.float64]) -> float:
    """(sum w)^2 / sum w^2 (Kish): how many equal weights (n,) are worth as much, from 1 to n."""
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / (weights**2).sum())


def highest(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """ln of the weights (n,) that are 1 for the `size` highest values and 0 for the rest; ties go by their place."""
    log_weights = np.full(len(values), -np.inf)
    log_weights[np.argsort(-values, kind="stable")[:size]] = 0.0
    return log_weights
