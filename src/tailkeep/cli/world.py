"""`tailkeep world`: a corpus with known truth, to try every command on."""

from pathlib import Path
from typing import Annotated

import typer

from tailkeep.cli.output import print_status

WorldKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the world, such as people=100. Repeatable."),
]


def world(
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    overrides: WorldKeys = None,
    prior: Annotated[bool, typer.Option(help="Also train a small language model on the corpus.")] = True,
) -> None:
    """Write a corpus with known truth, its questions and a small trained prior, to try every command on."""
    from tailkeep import lab
    from tailkeep.config import parse_assignments

    for path in lab.write_world(out, parse_assignments(overrides or []), prior=prior, on_status=print_status):
        print(path)
