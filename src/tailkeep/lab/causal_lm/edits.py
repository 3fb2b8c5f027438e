"""What an edit leaves beside a text's tokens: what they were before any edit, and counts.

Rule: flagged and changed are counted apart, since what is flagged is drawn anew and mostly stays what it is.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from tailkeep.lab.causal_lm.codec import Ids

_COUNTS = "edits.json"
_PRISTINE = "pristine.npy"


@dataclass(frozen=True)
class Counts:
    """Tokens by what became of them.

    Attributes:
        pristine: those of the text before any edit that an edit may touch.
        judged: those of them that this edit found.
        flagged: drawn anew by this edit.
        changed: became others by this edit.
        deleted: by this edit.
        lost: of the pristine ones, those that are others or gone by now, by this edit and those before it.
    """

    pristine: int
    judged: int
    flagged: int
    changed: int
    deleted: int
    lost: int


@dataclass(frozen=True)
class Edits:
    """`pristine` (T,): the id that each token of the edited text had before any edit.

    It is None where an outside model has edited text, since its tokens need not be those of the data.
    """

    pristine: Ids | None
    counts: Counts

    @property
    def facts(self) -> Mapping[str, float]:
        """`flagged_share` and `changed_share` (deleted ones too) of this edit, `cumulative_changed_share` of all."""
        counts, judged = self.counts, max(self.counts.judged, 1)
        return {
            "flagged_share": counts.flagged / judged,
            "changed_share": (counts.changed + counts.deleted) / judged,
            "cumulative_changed_share": counts.lost / max(counts.pristine, 1),
        }

    def save(self, folder: Path) -> None:
        """Write `edits.json`, and `pristine.npy` if it is known."""
        if self.pristine is not None:
            np.save(folder / _PRISTINE, self.pristine, allow_pickle=False)
        (folder / _COUNTS).write_text(json.dumps(asdict(self.counts)) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What `save` has written; None where a text was not edited."""
        if not (folder / _COUNTS).exists():
            return None
        counts = Counts(**json.loads((folder / _COUNTS).read_text(encoding="utf-8")))
        known = (folder / _PRISTINE).exists()
        return cls(np.load(folder / _PRISTINE, allow_pickle=False) if known else None, counts)
