"""How far one distribution lies from another, in nats.

Rule: the argument order is that of KL(p || q); p is what is judged, q what it is judged by.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def unigram_counts(tokens: ArrayLike, vocab_size: int) -> NDArray[np.int64]:
    """How often each of `vocab_size` token ids occurs in `tokens` (any shape of integers); shape (vocab_size,).

    Raises:
        ValueError: a token id is outside the vocabulary, or not an integer.
    """
    flat = np.asarray(tokens).ravel()
    if flat.size == 0:
        return np.zeros(vocab_size, dtype=np.int64)
    if not np.issubdtype(flat.dtype, np.integer):
        raise ValueError(f"token ids of type {flat.dtype}. Give integers.")
    lowest, highest = int(flat.min()), int(flat.max())
    if lowest < 0 or highest >= vocab_size:
        worst = lowest if lowest < 0 else highest
        raise ValueError(f"token id {worst} is outside the vocabulary of {vocab_size}. Give the tokenizer's full size.")
    return np.bincount(flat, minlength=vocab_size).astype(np.int64)


def kl_divergence(p_counts: ArrayLike, q_counts: ArrayLike, *, floor: float = 1e-10, smoothing: float = 0.0) -> float:
    """KL(p || q) = sum p ln(p / q) of two histograms (v,) over the same cells, each normalised first.

    An empty cell counts as `floor` in either histogram, without normalising again, as in ForTIFAI's published numbers
    (arXiv 2509.08972). With `floor=0` an empty cell of q under a filled one of p gives infinity. `smoothing` is added
    to every count before normalising; with any, no cell is empty and `floor` has no effect.
    A histogram without counts gives NaN.

    Raises:
        ValueError: the shapes differ, or a count, the floor or the smoothing is negative or not finite.
    """
    p = np.asarray(p_counts, dtype=np.float64)
    q = np.asarray(q_counts, dtype=np.float64)
    if p.shape != q.shape or p.ndim != 1:
        raise ValueError(f"histograms of shapes {p.shape} and {q.shape}. Give two of the same length.")
    for name, numbers in (("count", p), ("count", q), ("floor", floor), ("smoothing", smoothing)):
        if not (np.isfinite(numbers).all() and (np.asarray(numbers) >= 0).all()):
            raise ValueError(f"a {name} is negative or not finite. Give numbers from 0 upward.")
    p, q = p + smoothing, q + smoothing
    if p.sum() == 0 or q.sum() == 0:
        return float("nan")
    p, q = p / p.sum(), q / q.sum()
    p, q = np.where(p == 0, floor, p), np.where(q == 0, floor, q)
    held = p > 0
    with np.errstate(divide="ignore"):
        return float(np.sum(p[held] * (np.log(p[held]) - np.log(q[held]))))


def gaussian_kl(mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike) -> NDArray[np.float64]:
    """KL(p || q) of one-dimensional normal distributions, ln(s_q/s_p) + (s_p² + (m_p - m_q)²) / 2 s_q² - 1/2.

    All four broadcast; the result has their common shape. A standard deviation of 0 in one of the two gives
    infinity, in both 0 where the means agree and infinity where they do not.

    Raises:
        ValueError: a standard deviation is negative.
    """
    m_p, s_p, m_q, s_q = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (mean_p, std_p, mean_q, std_q)))
    if (s_p < 0).any() or (s_q < 0).any():
        raise ValueError("a standard deviation is negative. Give numbers from 0 upward.")
    # Ratios first: squares of a collapsed deviation such as 1e-200 would underflow.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ratio, shift = s_p / s_q, (m_p - m_q) / s_q
        divergence = 0.5 * (ratio**2 + shift**2 - 1) - np.log(ratio)
    points = np.where(m_p == m_q, 0.0, np.inf)
    collapsed = (s_p == 0) | (s_q == 0)
    result: NDArray[np.float64] = np.where(collapsed, np.where(s_p == s_q, points, np.inf), divergence)
    return result
