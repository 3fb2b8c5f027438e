"""How much of a world a set of documents keeps.

Rule: coverage is measured against what as many documents of the true world would cover in expectation, so 1 is the
world itself at any sample size.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailkeep.data.world.population import Population
from tailkeep.data.world.reading import Reading


def truth_metrics(population: Population, readings: Sequence[Reading]) -> dict[str, float]:
    """Five numbers about n documents, given what was read in each. NaN where there is nothing to divide by.

    - `valid_share`: documents inside the grammar, true or not, over n.
    - `true_share`: true statements over all statements. One about a person or with a value that the world does not
      know is not true.
    - `common_fact_coverage`, `rare_fact_coverage`: facts are ranked by their probability and cut in half, the middle
      one being common. Facts of that half stated at least once, over sum 1 - (1 - p)^n, p being the chance that
      one document states the fact.
    - `rare_phrasing_coverage`: the same over pairs of a person and a phrasing of the rarer half of each attribute's
      phrasings, whether the value stated is true or not. Single phrasings would all be covered by any sample.
    """
    n = len(readings)
    statements = [statement for reading in readings for statement in reading.statements]
    tables = population.config
    people, attributes, phrasings = tables.people, tables.attributes, tables.phrasings
    stated = np.zeros((people, attributes), dtype=bool)
    phrased = np.zeros((people, attributes, phrasings), dtype=bool)
    for statement in statements:
        if statement.person is not None:
            stated[statement.person, statement.attribute] |= statement.truth == "true"
            phrased[statement.person, statement.attribute, statement.phrasing] = True

    fact_chance = np.repeat(population.people_share * population.attribute_share, attributes)
    phrasing_chance = np.broadcast_to(
        (population.people_share * population.attribute_share)[:, None, None] * population.phrasing_share,
        phrased.shape,
    )
    middle = (people * attributes + 1) // 2
    rare = (phrasings + 1) // 2
    true = sum(statement.truth == "true" for statement in statements)
    return {
        "valid_share": _ratio(sum(reading.well_formed for reading in readings), n),
        "true_share": _ratio(true, len(statements)),
        "common_fact_coverage": _coverage(stated.ravel()[:middle], fact_chance[:middle], n),
        "rare_fact_coverage": _coverage(stated.ravel()[middle:], fact_chance[middle:], n),
        "rare_phrasing_coverage": _coverage(phrased[..., rare:], phrasing_chance[..., rare:], n),
    }


def _coverage(covered: NDArray[np.bool_], chance: NDArray[np.float64], n: int) -> float:
    return _ratio(float(covered.sum()), float(np.sum(1 - (1 - chance) ** n)))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
