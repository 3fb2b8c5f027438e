"""A verifier of documents about the embedded world, with the errors and the biases that it is given.

Rule: right is what the world itself could have written; errors fall on right and on wrong documents alike.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailkeep.data import World
from tailkeep.lab.selectors import Verifier

Weights = NDArray[np.float64]


def verdicts(texts: Sequence[str], verifier: Verifier, world: World, rng: np.random.Generator) -> Weights:
    """The weight (n,) that `verifier` gives to each text, 0 if it does not accept it; see its settings."""
    right = np.array([math.isfinite(world.log_probability(text.strip())) for text in texts], np.bool_)
    accepted = right ^ (rng.random(len(texts)) < verifier.error_rate)
    return np.where(accepted, liking(texts, verifier, world), 0.0)


def liking(texts: Sequence[str], verifier: Verifier, world: World) -> Weights:
    """How much `verifier` likes each text (n,), from 0 to 1, whatever is true; 1 without a bias."""
    if verifier.favours is None:
        return np.ones(len(texts))
    shares = world.population.people_share
    liked = []
    for text in texts:
        statements = world.read(text).statements
        if verifier.favours == "people":
            found = [0.0 if s.person is None else float(shares[s.person] / shares.max()) for s in statements]
        else:
            found = [float(s.phrasing == 0) for s in statements]
        liked.append(sum(found) / len(found) if found else 0.0)
    return np.array(liked, np.float64)
