"""A detector of machine text: a logistic regression on hashed words and pairs of words.

Rule: a text is judged by a detector that was fitted on others.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.data.hashed import occurrences
from tailkeep.optional import require

FOLDS = 5


def machine_probability(real: Sequence[str], written: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """q of each of the `real` texts and of each of the `written` ones: the chance that it is machine-written.

    Every fifth text of both is judged by a detector fitted on the others, to which both kinds are equally likely.

    Raises:
        MissingPackageError: scikit-learn is not installed.
    """
    linear: Any = require("sklearn.linear_model", extra="detector")
    counts = occurrences([*real, *written])
    # A bucket that is nowhere filled would only cost time.
    counts = counts[:, np.unique(counts.indices)]
    is_written = np.arange(counts.shape[0]) >= len(real)
    fold = np.concatenate([np.arange(len(real)), np.arange(len(written))]) % FOLDS
    found = np.full(len(fold), 0.5)
    for number in range(FOLDS):
        asked = fold == number
        # Fewer texts than folds may leave one kind alone, of which nothing can be learnt.
        if asked.any() and len(set(is_written[~asked].tolist())) == 2:
            fitted = linear.LogisticRegression(class_weight="balanced", max_iter=1000)
            found[asked] = fitted.fit(counts[~asked], is_written[~asked]).predict_proba(counts[asked])[:, 1]
    return found[: len(real)], found[len(real) :]
