"""The report of a forecast: what it says of the tail of a corpus.

Rule: it reads `summary.json` alone, and every name from a corpus is shown as one line of visible characters.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tailkeep.errors import InputError
from tailkeep.report import formatting
from tailkeep.runs import RunDirectory


def read_forecast(path: Path | str) -> Mapping[str, Any]:
    """The summary of the forecast at `path`; empty if it is not finished.

    Raises:
        InputError: there is no run at `path`, or its summary cannot be read.
    """
    summary = RunDirectory.open(Path(path)).path / "summary.json"
    if not summary.is_file():
        return {}
    try:
        tree: Mapping[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {summary}: {error}. Run the forecast again.") from None
    return tree


def show_forecast(path: Path | str, console: Console) -> None:
    """Print what the forecast at `path` says.

    Raises:
        InputError: there is no run at `path`, or its summary cannot be read.
    """
    tree = read_forecast(path)
    if not tree:
        console.print("The forecast is not finished. Run the same command again to continue.")
    for sentence in tree.get("sentences", ()):
        console.print(formatting.terminal_text(sentence))
