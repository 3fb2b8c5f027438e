"""A selector of one's own: a text counts by the number of different words in it, to the power `exponent`.

    regime: {name: select, by: {name: "my_selector:by_variety", exponent: 2}}

The function gets the candidates and the real texts, and returns a weight of 0 or more for each candidate.
"""

from collections.abc import Sequence


def by_variety(texts: Sequence[str], real_texts: Sequence[str], exponent: float = 1.0) -> list[float]:
    return [(1 + len(set(text.split()))) ** exponent for text in texts]
