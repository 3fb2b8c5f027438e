"""n-grams of words within documents, and the equal ones among them.

Rule: an n-gram never crosses from one document into the next.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tailkeep.data.hashed.hashing import Hashes, extended, mixed
from tailkeep.data.hashed.words import Positions, Words

_SHORT = 1 << 16


@dataclass(frozen=True, eq=False)
class Grams:
    """The n-grams of some documents: the hash of each (G,), the number of its first word and of its document."""

    hashes: Hashes
    firsts: Positions
    documents: Positions


@dataclass(frozen=True, eq=False)
class Equal:
    """Equal n-grams put together, in the order of their first occurrence (V,).

    Attributes:
        hashes: of each type.
        counts: how often it occurs.
        firsts: the number of the first word where it first occurs.
        numbers: (G,) the number of each gram's type.
    """

    hashes: Hashes
    counts: Positions
    firsts: Positions
    numbers: NDArray[np.int32]


def grams_of(words: Words, longest: int) -> list[Grams]:
    """The n-grams of `words` for n = 1 to `longest`."""
    hashes, documents = words.hashes, words.documents
    found = [Grams(hashes, np.arange(len(hashes)), documents)]
    for length in range(2, longest + 1):
        hashes = extended(hashes[:-1], words.hashes[length - 1 :])
        inside = np.flatnonzero(documents[length - 1 :] == documents[: max(len(documents) - length + 1, 0)])
        found.append(Grams(hashes[inside], inside, documents[inside]))
    return found


def equal_grams(grams: Grams) -> Equal:
    """Each type among `grams` once."""
    # Arrow numbers values in the order in which they come, in a third of the time that sorting them takes.
    numbered = pa.array(grams.hashes).dictionary_encode()
    hashes, numbers = numbered.dictionary.to_numpy(), numbered.indices.to_numpy()
    counts = np.bincount(numbers, minlength=len(hashes))
    is_first = np.diff(np.maximum.accumulate(numbers), prepend=-1) > 0
    return Equal(hashes, counts, grams.firsts[is_first], numbers)


def documents_with(grams: Grams, equal: Equal) -> Positions:
    """In how many documents each type of `equal` occurs (V,), among `grams`, of which it was made."""
    numbers, types = equal.numbers, len(equal.hashes)
    order = np.argsort(numbers.astype(np.uint16) if types <= _SHORT else numbers, kind="stable")
    documents = grams.documents[order]
    is_new = np.ones(len(order), np.bool_)
    np.not_equal(documents[1:], documents[:-1], out=is_new[1:])
    is_new[np.cumsum(equal.counts)[:-1]] = True
    return np.bincount(numbers[order[is_new]], minlength=types)


def distinct_in_documents(grams: Grams, documents: int) -> Positions:
    """How many different n-grams each of `documents` documents has."""
    pairs = pa.array(mixed(grams.hashes ^ mixed(grams.documents.astype(np.uint64)))).dictionary_encode()
    is_first = np.diff(np.maximum.accumulate(pairs.indices.to_numpy()), prepend=-1) > 0
    return np.bincount(grams.documents[is_first], minlength=documents)
