"""What the rejected documents of a run say. Rule: one reason stands for all, but each torn file is named."""

import json
import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailkeep.data.corpus.manifest import Manifest
from tailkeep.data.corpus.opened import OpenRun

_FOLDER = "rejects/"


@dataclass(frozen=True)
class Rejects:
    """The place and the reason of the first rejected document, and the `torn` files, whose rest is lost."""

    first: str = ""
    torn: tuple[str, ...] = ()


def read_rejects(manifests: Sequence[Manifest], opened: OpenRun) -> Rejects:
    """Those of the shards of `manifests`, in their order."""
    first, torn = "", []
    for manifest in manifests:
        for name in (name for name in manifest.outputs if name.startswith(_FOLDER)):
            # A copy from a store is thrown away before the next one, for there may be many.
            with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
                head, last = _ends(opened.local(name, Path(folder)))
            first = first or f"{head['where']}: {head['reason']}"
            # Behind a tear nothing is read, so it is the last.
            if last.get("torn"):
                torn.append(name.removeprefix(_FOLDER).removesuffix(".jsonl"))
    return Rejects(first, tuple(torn))


def _ends(log: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first and the last line of `log`; lines between are not held, since they carry whole documents."""
    with log.open("rb") as lines:
        first = next(lines)
        last = deque(lines, maxlen=1)
    return json.loads(first), json.loads(last[0] if last else first)
