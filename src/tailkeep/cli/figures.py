"""Where a command that prints a table writes its figures. Rule: refused before anything is computed."""

from pathlib import Path
from typing import Annotated

import typer


def _is_a_file(out: Path | None) -> Path | None:
    if out is not None and out.is_dir():
        raise typer.BadParameter(f"{out} is a folder. Give a file.")
    return out


FiguresFile = Annotated[
    Path | None, typer.Option(metavar="FILE", callback=_is_a_file, help="Also write all figures as JSON.")
]
"""Where figures go, None for nowhere."""
