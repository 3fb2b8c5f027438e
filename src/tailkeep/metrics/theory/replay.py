"""Replay: the real documents that keep the most items alive beside a synthetic text, within a budget of tokens.

An item is anything that is counted, as in `drift`. Rule: copies are independent, so an item with s copies in the
synthetic text and k in the replayed documents is lost with probability Q_s^s Q_r^k, and a document that is replayed
prevents less the more copies of its items are replayed already.
"""

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse


@dataclass(frozen=True)
class CopyExtinction:
    """The probability that one copy in a training set has no descendant in the text that is written some rounds later.

    `synthetic` is that of a copy in the synthetic text, `replayed` that of a copy in a replayed document.
    """

    synthetic: float
    replayed: float


def replay_extinction(
    rounds: int, *, synthetic_mean: float = 1.0, replayed_mean: float = 1.0, pool: float | None = None
) -> CopyExtinction:
    """The extinction of copies in a training set `rounds` rounds before the text that counts; 1 is the next text.

    Drift alone: a copy has Poisson offspring in the next text, of mean `synthetic_mean` or `replayed_mean`. What is
    replayed later is not counted. With u the extinction of a copy in the next text, 0 if that is the one that counts:

        without `pool`, the next model trains on the next text only:
            u <- exp(u - 1), rounds - 1 times from 0
        with `pool` N, all texts are kept:
            u <- exp(-1 / (N + rounds - 1)), then u <- u exp((u - 1) / (N + i)) for i = rounds - 2 ... 1

    the result is exp(mean (u - 1)), for a synthetic copy in a pool, which stays there, times u if rounds > 1. `pool` is
    the size of the training set over that of the real text; with N = 1 and means 1 / N a synthetic copy has the
    extinction of `drift.copy_extinction` in the regime `accumulate`.

    Raises:
        ValueError: a number is out of range.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be >= 1, got {rounds}.")
    if not (synthetic_mean >= 0 and replayed_mean >= 0):
        raise ValueError(f"means must be >= 0, got {synthetic_mean} and {replayed_mean}.")
    if pool is None:
        z = 0.0
        for _ in range(rounds - 1):
            z = math.exp(z - 1)
        return CopyExtinction(math.exp(synthetic_mean * (z - 1)), math.exp(replayed_mean * (z - 1)))
    if not pool > 0:
        raise ValueError(f"pool must be > 0, got {pool}.")
    # Backwards from the text that counts; u is the extinction of a copy that lies in the pool of a later round.
    u = 0.0
    for later in range(rounds - 1, 0, -1):
        u = (u if u else 1.0) * math.exp((u - 1) / (pool + later))
    stays = u if rounds > 1 else 1.0
    return CopyExtinction(stays * math.exp(synthetic_mean * (u - 1)), math.exp(replayed_mean * (u - 1)))


def greedy_replay(
    copies: sparse.csr_array, losses: ArrayLike, extinction: float, costs: ArrayLike, budget: float
) -> NDArray[np.int64]:
    """The documents to replay, in the order of their choice: each prevents the most expected loss per token.

    Prevented is F(S) = sum over items v of losses_v (1 - extinction^k_v(S)), k_v(S) the copies of v in the documents S.
    F is monotone and submodular, so a document's gain only falls as others are taken, and a heap of old gains as upper
    bounds gives the very choice of a full recomputation (lazy greedy, Minoux 1978). A document that no longer fits is
    passed over; the first of equals is taken. With equal costs F is at least 1 - 1/e of the best (Nemhauser 1978).

    Args:
        copies: (D, V) copies of each item in each document.
        losses: (V,) the expected loss of each item without replay, at least 0.
        extinction: of one replayed copy, in (0, 1].
        costs: (D,) tokens of each document, above 0.
        budget: tokens in all.

    Raises:
        ValueError: shapes differ, or a number is out of range.
    """
    residual, tokens = np.array(losses, np.float64), np.asarray(costs, np.float64)
    if copies.shape != (len(tokens), len(residual)):
        raise ValueError(
            f"copies have shape {copies.shape}, but there are {len(tokens)} costs, {len(residual)} losses."
        )
    if not (tokens > 0).all() or not (residual >= 0).all():
        raise ValueError("costs must be > 0 and losses >= 0.")
    if not 0 < extinction <= 1:
        raise ValueError(f"extinction must be in (0, 1], got {extinction}.")
    starts, items, factors = copies.indptr, copies.indices, extinction ** copies.data.astype(np.float64)

    def gain_per_token(document: int) -> float:
        row = slice(starts[document], starts[document + 1])
        return float(residual[items[row]] @ (1 - factors[row])) / float(tokens[document])

    heap = [(-gain_per_token(document), document, 0) for document in range(len(tokens))]
    heapq.heapify(heap)
    order: list[int] = []
    while heap:
        bound, document, computed_at = heapq.heappop(heap)
        if tokens[document] > budget:
            continue
        if computed_at < len(order):
            # Rounding must not lift a gain above its bound.
            heapq.heappush(heap, (max(bound, -gain_per_token(document)), document, len(order)))
            continue
        order.append(document)
        budget -= float(tokens[document])
        row = slice(starts[document], starts[document + 1])
        residual[items[row]] *= factors[row]
    return np.array(order, np.int64)


def remaining_loss(copies: sparse.csr_array, losses: ArrayLike, extinction: float, documents: ArrayLike) -> float:
    """The expected loss that is left if `documents` are replayed; arguments as in `greedy_replay`."""
    replayed = np.asarray(copies[np.asarray(documents, np.int64)].sum(axis=0), np.float64).ravel()
    return float(np.asarray(losses, np.float64) @ extinction**replayed)
