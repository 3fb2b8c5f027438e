"""The knowledge-retention test of a world, right by construction.

Rule: questions come in pairs of two people whose values are swapped, so whoever looks only at the values, how
popular, long or likely they are, answers exactly one of the two.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tailkeep.data.questions import Question
from tailkeep.data.world.population import Population, draw


def ask(population: Population, *, rounds: int, rng: np.random.Generator) -> Iterator[Question]:
    """`rounds` questions about each fact that finds a partner.

    In each round the people are paired at random within each attribute, such that their values differ, and each pair
    is asked in one phrasing drawn with its true chance. `location` is the index of the fact.
    """
    attributes = population.config.attributes
    for _ in range(rounds):
        for attribute in range(attributes):
            pairs = pair(population.truth[:, attribute], rng)
            phrasings = draw(population.phrasing_share, len(pairs), rng)
            for (one, other), phrasing in zip(pairs.tolist(), phrasings.tolist(), strict=True):
                yield _question(population, one, other, attribute, phrasing)
                yield _question(population, other, one, attribute, phrasing)


def pair(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """As many disjoint pairs of positions with different `labels` (n,) as there can be; shape (pairs, 2).

    Positions are laid out label by label, the most frequent first, and each of the first half is paired with the
    one half the way on: equal labels meet only if one label has more than half, and then none could be paired better.
    """
    shuffled = rng.permutation(len(labels))
    kinds, counts = np.unique(labels, return_counts=True)
    order = {int(kind): place for place, kind in enumerate(kinds[rng.permutation(len(kinds))])}
    if len(kinds):
        order[int(kinds[counts.argmax()])] = -1
    laid = sorted(shuffled.tolist(), key=lambda position: order[int(labels[position])])
    laid = laid[len(laid) % 2 :]
    half = len(laid) // 2
    pairs = [(one, other) for one, other in zip(laid[:half], laid[half:], strict=True) if labels[one] != labels[other]]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _question(population: Population, person: int, other: int, attribute: int, phrasing: int) -> Question:
    words = population.values[attribute]
    form = population.attributes[attribute].phrasings[phrasing]
    name = " ".join(population.names[person])
    context, true = form.cut(name, words[population.truth[person, attribute]])
    _, false = form.cut(name, words[population.truth[other, attribute]])
    return Question(context, true, false, location=person * population.config.attributes + attribute)
