"""`tailkeep merge`: several laboratory runs, or packs of them, joined into one."""

from pathlib import Path
from typing import Annotated

import typer


def merge(
    directories: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories or packs, two or more.")],
    out: Annotated[Path, typer.Option(help="The folder of the result, a new one.")],
    accept_versions: Annotated[
        bool, typer.Option("--accept-versions", help="Join runs of other versions or of another device.")
    ] = False,
) -> None:
    """Join runs whose shared arms are the same: all their arms, seeds and finished generations."""
    from tailkeep.lab.merge import merge_runs

    if len(directories) < 2:
        raise typer.BadParameter("give two or more runs or packs.", param_hint="RUN...")
    run = merge_runs(directories, out, accept_versions=accept_versions)
    print(f"merged: {out} ({len(run.generation_dirs())} generations of {len(directories)} runs)")
