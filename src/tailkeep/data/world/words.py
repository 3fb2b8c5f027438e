"""Invented words: pronounceable, distinct, and made of few syllables, so that a small vocabulary spells them shortly.

Rule: no word is given out twice in one world, whatever it names.
"""

from collections.abc import Sequence

import numpy as np

# fmt: off
_STARTS = (
    "bal", "bel", "bran", "cor", "dal", "dor", "fen", "fir", "gal", "gren", "hol",
    "jan", "kes", "kor", "lin", "lor", "mar", "mel", "mir", "nel", "nor", "ost",
    "pel", "per", "ros", "sel", "tam", "tol", "tor", "var", "ves", "wil", "zan",
)
# fmt: on
_MIDDLES = ("", "an", "el", "id", "or", "um")


def invent(count: int, endings: Sequence[str], *, taken: set[str], rng: np.random.Generator) -> list[str]:
    """`count` new lower-case words that end in one of `endings`, short ones first; they are added to `taken`."""
    words: list[str] = []
    for middle in _MIDDLES:
        fresh = [start + middle + ending for start in _STARTS for ending in endings]
        fresh = [word for word in dict.fromkeys(fresh) if word not in taken]
        words += [fresh[i] for i in rng.permutation(len(fresh))[: count - len(words)]]
        taken.update(words)
    assert len(words) == count, "WorldConfig allows more words than there are"
    return words
