"""An editor of one's own: a share of the tokens is replaced by random tokens of the same text.

    regime: {name: edit, editor: {name: "my_editor:shuffle_some", share: 0.1}}

The function gets the model and the training data, and returns data of the same kind; a model that scores tokens is
`model.log_probs(rows)`.
"""

from typing import Any

import numpy as np


def shuffle_some(model: Any, data: Any, share: float = 0.1, *, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    ids = data.ids.copy()
    chosen = rng.random(len(ids)) < share
    ids[chosen] = rng.permutation(ids[chosen])
    return data.with_ids(ids)
