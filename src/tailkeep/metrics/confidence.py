"""How sure a model is of the tokens in a text.

Rule: log-probabilities come in, in nats and of any shape; they are pooled, and NaN among them is an error.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDING = 1e-3
"""A log-probability this far above 0 is still rounding: bfloat16 and float16 carry three digits."""


def confidence_histogram(log_probs: ArrayLike, *, bins: int = 20) -> NDArray[np.int64]:
    """How many tokens have a probability in each of `bins` equal parts of [0, 1]; shape (bins,).

    A part holds its lower edge and not its upper one, but the last holds 1. The edges are `linspace(0, 1, bins + 1)`.

    Raises:
        ValueError: a log-probability is NaN or above 0, or `bins` is below 1.
    """
    if bins < 1:
        raise ValueError(f"a histogram of {bins} bins. Give at least 1.")
    counts, _ = np.histogram(np.exp(_checked(log_probs)), bins=bins, range=(0.0, 1.0))
    return counts.astype(np.int64)


def share_above(log_probs: ArrayLike, threshold: float) -> float:
    """The share of tokens whose probability is above `threshold`: those that a truncated loss would drop.

    NaN for no tokens.

    Raises:
        ValueError: a log-probability is NaN or above 0, or `threshold` is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"the threshold is {threshold}. Give a probability from 0 to 1.")
    values = _checked(log_probs)
    with np.errstate(divide="ignore"):
        limit = np.log(threshold)
    return float(np.mean(values > limit)) if values.size else float("nan")


def perplexity(log_probs: ArrayLike) -> float:
    """exp of the mean negative log-probability: 1 for a text foreseen with certainty. NaN for no tokens.

    Raises:
        ValueError: a log-probability is NaN or above 0.
    """
    values = _checked(log_probs)
    with np.errstate(over="ignore"):
        return float(np.exp(-values.mean())) if values.size else float("nan")


def _checked(log_probs: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(log_probs, dtype=np.float64).ravel()
    wrong = values[~(values <= _ROUNDING)]
    if wrong.size:
        raise ValueError(f"the log-probability {wrong[0]} is no logarithm of a probability. Give values up to 0.")
    return np.minimum(values, 0.0)
