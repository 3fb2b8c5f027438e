"""`tailkeep report` and `tailkeep show`: what is in a run directory."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def report(directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")]) -> None:
    """Write the report of a run again: report.html, and of the laboratory figures/ and tables/."""
    from tailkeep import report as room

    match _kind(directory):
        case "edit":
            print(f"report: {room.write_edits(directory)}")
        case "audit":
            print(f"report: {room.write_audit(directory)}")
        case _:
            print_report(directory)


def show(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    samples: Annotated[
        int | None, typer.Option(min=0, help="Of the laboratory: sample texts of each generation; 1 if not given.")
    ] = None,
    edits: Annotated[int | None, typer.Option(min=0, help="Of an edit: edits to print; 20 if not given.")] = None,
) -> None:
    """Print a run: what it is and what it found, with texts."""
    from tailkeep import report as room

    kind = _kind(directory)
    own = {"edit": "--edits", "audit": ""}.get(kind, "--samples")
    for option, value in (("--samples", samples), ("--edits", edits)):
        if value is not None and option != own:
            told = f"give {own}" if own else "leave it out"
            raise typer.BadParameter(f"a run of this kind has none; {told}.", param_hint=option)
    match kind:
        case "edit":
            room.show_edits(directory, Console(), edits=20 if edits is None else edits)
        case "audit":
            room.show_audit(directory, Console())
        case _:
            room.show(directory, Console(), samples=1 if samples is None else samples)


def print_report(directory: Path) -> None:
    """Write the report of a laboratory run, and print its summary."""
    from tailkeep import report as room

    page = room.write(directory)
    room.print_summary(directory, Console())
    print(f"report: {page}")


def _kind(directory: Path) -> str:
    from tailkeep.runs import RunDirectory

    return RunDirectory.open(directory).record.kind
