"""What a selection leaves beside the tokens that it has chosen: its facts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_FACTS = "selection.json"


@dataclass(frozen=True)
class Selection:
    """`facts` of the selection that chose a text, as they stand among the metrics."""

    facts: Mapping[str, float]

    def save(self, folder: Path) -> None:
        """Write `selection.json`."""
        (folder / _FACTS).write_text(json.dumps(dict(self.facts)) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What `save` has written; None where a text was not selected."""
        path = folder / _FACTS
        return cls(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
