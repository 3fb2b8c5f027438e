"""The steps of a long experiment, for the scripts beside this one: each result is a file, so a run stops at any step.

Rule: a folder holds results of one set of options; with others it is refused, since file names do not tell them.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tailkeep.runs import Storage


def once(path: Path, make: Callable[[], Any]) -> Any:
    """The JSON value in `path`, made and written where it is not there yet."""
    if not path.exists():
        Storage().write_text(path, json.dumps(make()))
        print(f"{path} is written", file=sys.stderr)
    return json.loads(path.read_text(encoding="utf-8"))


def begin(out: Path, options: Mapping[str, Any]) -> None:
    """Make the folder `out` for results of these `options`, or end the script if it has those of others."""
    out.mkdir(parents=True, exist_ok=True)
    path, tree = out / "options.json", json.loads(json.dumps(dict(options), default=str))
    if not path.exists() and any(out.glob("*.json")):
        sys.exit(f"{out} holds results and no options.json, so nothing says what they are of. Give another folder.")
    before = once(path, lambda: tree)
    for key in sorted({*before, *tree}):
        if before.get(key) != tree.get(key):
            sys.exit(
                f"{out} holds results with {key} {before.get(key)!r}, not {tree.get(key)!r}. Give another folder, or "
                "the same options."
            )
