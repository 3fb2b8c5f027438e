"""`tailkeep report` and `tailkeep show`: what is in a run directory."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def report(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="A run directory, or several.")],
) -> None:
    """Rewrite the report of a run: report.html, also figures/ of a forecast, figures/ and tables/ of the laboratory.

    Of a pack, and of several runs or packs together (see `tailkeep merge`), only the summary is printed.
    """
    from tailkeep import report as reports

    if len(directories) > 1:
        _print_together(directories)
        return
    (directory,) = directories
    match _kind(directory):
        case "edit":
            print(f"report: {reports.write_edits(directory)}")
        case "audit":
            print(f"report: {reports.write_audit(directory)}")
        case "forecast":
            print(f"report: {reports.write_forecast(directory)}")
        case _:
            print_report(directory)


def card(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run or a pack of the laboratory.")],
    out: Annotated[Path | None, typer.Option(help="The Markdown file to write; printed if not given.")] = None,
) -> None:
    """Write the section of a model card: what was trained on what, how it ended, and how sure that is."""
    from tailkeep import report as reports
    from tailkeep.runs import Storage

    if _kind(directory) in {"edit", "audit", "forecast"}:
        raise typer.BadParameter("a model card is about a run of the laboratory.", param_hint="RUN")
    text = reports.model_card(directory)
    if out is None:
        print(text, end="")
    else:
        Storage().write_text(out, text)
        print(f"card: {out}")


def show(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    samples: Annotated[
        int | None, typer.Option(min=0, help="Of the laboratory: sample texts of each generation; 1 if not given.")
    ] = None,
    edits: Annotated[int | None, typer.Option(min=0, help="Of an edit: edits to print; 20 if not given.")] = None,
) -> None:
    """Print the facts and results of a run, with some of its texts."""
    from tailkeep import report as reports

    kind = _kind(directory)
    option_of_kind = {"edit": "--edits", "audit": "", "forecast": ""}.get(kind, "--samples")
    for option, value in (("--samples", samples), ("--edits", edits)):
        if value is not None and option != option_of_kind:
            advice = f"give {option_of_kind}" if option_of_kind else "leave it out"
            raise typer.BadParameter(f"a run of this kind has none; {advice}.", param_hint=option)
    match kind:
        case "edit":
            reports.show_edits(directory, Console(), edits=20 if edits is None else edits)
        case "audit":
            reports.show_audit(directory, Console())
        case "forecast":
            reports.show_forecast(directory, Console())
        case _:
            reports.show(directory, Console(), samples=1 if samples is None else samples)


def print_report(directory: Path) -> None:
    """Write the report of a laboratory run, and print its summary. Of a pack, which stays small, only print it."""
    from tailkeep import report as reports
    from tailkeep.runs import RunDirectory

    page = None if RunDirectory.open(directory).record.packed else reports.write(directory)
    reports.print_summary(directory, Console())
    if page is not None:
        print(f"report: {page}")


def _print_together(directories: list[Path]) -> None:
    from tailkeep import report as reports
    from tailkeep.lab.merge import merge_runs

    with tempfile.TemporaryDirectory() as scratch:
        merge_runs(directories, Path(scratch) / "merged")
        reports.print_summary(Path(scratch) / "merged", Console())


def _kind(directory: Path) -> str:
    from tailkeep.runs import RunDirectory

    return RunDirectory.open(directory).record.kind
