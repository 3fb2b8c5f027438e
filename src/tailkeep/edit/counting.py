"""What an edit did to the tokens of a shard, as counts that add up over shards.

    tokens/<band> flagged/<band> changed/<band> deleted/<band> after/<band> refused/<reason>

Rule: a band is named by its lowest probability, and a token belongs to that of its probability on the original prefix.
"""

import math
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from tailkeep.edit.editing import Edited

BANDS = ("0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "0.99", "0.999")
"""The least probability of each band; the last three are parts of the last tenth, where ToEdit works."""

# As the rules take theirs: in log space and in float32, so that a threshold of 0.99 flags whole bands.
_LOGS = np.array([math.log(float(name)) for name in BANDS[1:]], np.float32)
_KINDS = ("tokens", "flagged", "changed", "deleted", "after")


class TokenCounts:
    """Adds up what was done to documents."""

    def __init__(self) -> None:
        self._bands = {kind: np.zeros(len(BANDS), np.int64) for kind in _KINDS}
        self._refused: Counter[str] = Counter()
        self._read = self._unscored = self._left = 0

    def add(self, edited: Edited) -> None:
        """Count one document: of its editable tokens, those that the prior scored."""
        editable = edited.prepared.editable
        bands = bands_of(edited.log_probs)
        scored = editable & ~np.isnan(edited.log_probs)
        self._read += len(editable)
        self._unscored += int(editable.sum() - scored.sum())
        tokens = _histogram(bands[scored])
        changed = [change for change in edited.changes if change.new_log_prob is not None]
        deleted = [change.position for change in edited.changes if change.new_log_prob is None]
        old = _histogram(bands[[change.position for change in changed]])
        gone = _histogram(bands[deleted])
        new = _histogram(bands_of(np.array([change.new_log_prob for change in changed], np.float32)))
        self._bands["tokens"] += tokens
        self._bands["flagged"] += _histogram(bands[edited.flagged])
        self._bands["changed"] += old
        self._bands["deleted"] += gone
        self._bands["after"] += tokens - old - gone + new
        self._refused.update(edited.refused)
        ids = edited.prepared.record.tokens
        self._left += bool(edited.changes and ids and ids.repeats)

    def counts(self) -> dict[str, int]:
        """All of them by name, and `tokens_read`, which takes in prompts and tokens around the text.

        `repeats_left`, if there are any, are edited documents of ids with another list that repeats the original ones.
        """
        found = {
            f"{kind}/{band}": int(count)
            for kind, row in self._bands.items()
            for band, count in zip(BANDS, row, strict=True)
        }
        totals = {kind: int(row.sum()) for kind, row in self._bands.items() if kind != "after"}
        refused = {f"refused/{reason}": count for reason, count in sorted(self._refused.items())}
        left = {"repeats_left": self._left} if self._left else {}
        return {**totals, **left, "tokens_read": self._read, "tokens_unscored": self._unscored, **found, **refused}


def bands_of(log_probs: NDArray[np.float32]) -> NDArray[np.int64]:
    """The number of each token's band; of a token without a score, some number."""
    return np.searchsorted(_LOGS, log_probs, side="right")


def _histogram(bands: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(bands, minlength=len(BANDS))
