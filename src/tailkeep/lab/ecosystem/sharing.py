"""Who does what: places dealt out in given shares. Rule: what a member gets is a function of the numbers alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailkeep.lab.protocols import Indices


def deal(places: int, shares: Sequence[float]) -> Indices:
    """(places,) the member of each place, so that every beginning of the row is shared as evenly as whole places allow.

    Each place goes to whoever is furthest behind its share, the first of them in a tie.
    """
    wanted = np.asarray(shares, dtype=np.float64)
    given = np.zeros(len(wanted))
    members = np.empty(places, dtype=np.int64)
    for place in range(places):
        # Without rounding, equal shares would not be equal: 3 * .1 is not .3.
        members[place] = np.round(wanted * (place + 1) - given, 9).argmax()
        given[members[place]] += 1
    return members


def shuffle_and_deal(places: int, shares: Sequence[float], *, seed: int) -> Indices:
    """As `deal`, in an order drawn at random."""
    members = np.empty(places, dtype=np.int64)
    members[np.random.default_rng(seed).permutation(places)] = deal(places, shares)
    return members


def consecutive(places: int, shares: Sequence[float], *, seed: int) -> list[tuple[int, Indices]]:
    """(member, places) in the order of the places: one unbroken piece each, the members in an order drawn at random.

    Members whose share is less than half a place may get none and are left out.
    """
    order = np.random.default_rng(seed).permutation(len(shares))
    ends = np.rint(np.cumsum(np.asarray(shares, dtype=np.float64)[order]) * places).astype(np.int64)
    starts = [0, *ends[:-1]]
    pieces = ((int(m), np.arange(a, b)) for m, a, b in zip(order, starts, ends, strict=True))
    return [(member, piece) for member, piece in pieces if len(piece)]


def member_seed(seed: int, member: int) -> int:
    """The seed of one member's draws, so that equal members do not write the same."""
    return int(np.random.SeedSequence([seed, member]).generate_state(1)[0])


def mixture_log_probs(log_probs: Sequence[NDArray[np.float32]], shares: Sequence[float]) -> NDArray[np.float32]:
    """ln of the share-weighted mean of probabilities, sum over m of share_m exp(log_probs[m]); each of shape (T,).

    Taken in float64, and an impossible token stays impossible.
    """
    weighted = np.stack([row.astype(np.float64) + np.log(s) for row, s in zip(log_probs, shares, strict=True)])
    result: NDArray[np.float32] = np.logaddexp.reduce(weighted, axis=0).astype(np.float32)
    return result
