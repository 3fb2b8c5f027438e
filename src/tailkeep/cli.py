"""The `tailkeep` command: it wires the rooms together, and nothing below it knows it.

Rule: results go to stdout, progress and messages to stderr, and a TailkeepError ends in one line and its exit code.
"""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tailkeep import __version__
from tailkeep.errors import ExitCode, TailkeepError
from tailkeep.redaction import redact
from tailkeep.visible import visible

app = typer.Typer(
    name="tailkeep",
    help="Keep the tail: train generative models on data that machines wrote, without collapse.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as scale=full. Repeatable.")
]
WorldKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the world, such as people=100. Repeatable."),
]
EditKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as rule.threshold=0.9. Repeatable."),
]


def main() -> None:
    """Run the command line and exit with the code that says how it ended."""
    sys.excepthook = _print_fault
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacted("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        # One that came before typer listens, or while it ends.
        _tell_interrupted()
        sys.exit(ExitCode.INTERRUPTED)
    except TailkeepError as error:
        print(f"error: {visible(redact(str(error)))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as end:
        # typer turns an interrupt into its exit code and says nothing.
        if end.code == ExitCode.INTERRUPTED:
            _tell_interrupted()
        raise


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def lab(
    name: Annotated[str | None, typer.Argument(metavar="NAME|FILE", help="A recipe's name, or a YAML file.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run directory, new or to be resumed.")] = None,
    overrides: Overrides = None,
    arms: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Run these arms only; all if not given.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes side by side; 0 means one a core on a CPU, one in all on a GPU.")
    ] = 0,
    list_all: Annotated[bool, typer.Option("--list", help="List the recipes and exit.")] = False,
    dump_config: Annotated[bool, typer.Option("--dump-config", help="Print the resolved config and exit.")] = False,
) -> None:
    """Train generation after generation on machine-written data, and measure what is lost."""
    from tailkeep import lab as room

    if list_all:
        _print_recipes(room.list_recipes())
        return
    if name is None:
        raise typer.BadParameter(
            "give a recipe's name or a YAML file; --list shows the recipes.", param_hint="NAME|FILE"
        )
    chosen = [] if arms is None else [arm.strip() for arm in arms.split(",")]
    config = room.load(name, overrides=overrides or [], arms=chosen)
    if dump_config:
        print(room.dump(config), end="")
        return
    if out is None:
        raise typer.BadParameter("give the folder to write to, such as --out runs/demo.", param_hint="--out")
    from tailkeep.progress import shown_progress

    with shown_progress(config.cells) as observe:
        room.run(config, out, observe=observe, workers=workers or room.default_workers(config))
    _report(out)


@app.command()
def edit(
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="GLOB", help="Files, folders or globs, local or as URLs. Repeatable."),
    ] = None,
    prior: Annotated[
        str | None, typer.Option(metavar="PATH", help="A causal language model: a folder or hub id.")
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="The output, new or to be resumed.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A YAML file with any of the keys.")] = None,
    overrides: EditKeys = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side, each with the prior.")] = 1,
    task_index: Annotated[
        int | None, typer.Option(min=0, help="Number of this job, from 0; in a Slurm array its own.")
    ] = None,
    num_tasks: Annotated[int | None, typer.Option(min=1, help="How many jobs share the work.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Try so many documents, print what to expect, and write nothing.")
    ] = None,
    text_field: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="A field to edit, such as text or a.b. Repeatable.")
    ] = None,
    id_field: Annotated[str | None, typer.Option(metavar="PATH", help="The field with the document's id.")] = None,
    document: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="A document of plain text: line, file, blank-line or up to a separator."),
    ] = None,
    max_document_bytes: Annotated[int | None, typer.Option(min=1, help="A longer document is rejected.")] = None,
    on_error: Annotated[
        str | None, typer.Option(metavar="stop|skip", help="Stop at a document that cannot be read, or reject it.")
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="An earlier run: refuse copies of what it wrote. Repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Edit a corpus that is edited already.")] = False,
    dump_config: Annotated[bool, typer.Option("--dump-config", help="Print the resolved config and exit.")] = False,
) -> None:
    """Flag the tokens that a prior is sure of, draw them from it, and leave every other character as it is."""
    from tailkeep import edit as room

    layout = {
        "text_fields": text_field,
        "id_field": id_field,
        "document": document,
        "max_document_bytes": max_document_bytes,
    }
    options = {"prior": {"path": prior}, "layout": layout, "on_error": on_error, "anchors": anchor, "force": force}
    chosen = room.load(config, overrides=overrides or [], options=_given(options))
    if dump_config:
        print(room.dump(chosen), end="")
        return
    if not inputs:
        raise typer.BadParameter("give what to edit, such as --input 'corpus/*.jsonl'.", param_hint="--input")
    if limit is not None:
        print("\n".join(room.estimate(chosen, inputs, limit=limit).lines()))
        return
    if out is None:
        raise typer.BadParameter("give where to write to, such as --out edited.", param_hint="--out")
    task = room.task_here(task_index, num_tasks, os.environ)
    outcome = room.run(chosen, inputs, out, workers=workers, task=task, observe=room.Lines())
    for line in outcome.warnings():
        _tell(f"warning: {visible(redact(line), newline=' ')}.")
    print(visible("\n".join([*outcome.lines(), f"output: {redact(out)}"])), flush=True)
    if outcome.rejected:
        first = visible(redact(outcome.rejects.first), newline=" ")
        _tell(f"rejected: {outcome.rejected:,} documents, see {redact(out)}/rejects/. The first is {first}.")
        raise typer.Exit(ExitCode.DONE_WITH_REJECTS)


@app.command()
def report(directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")]) -> None:
    """Write the report of a run again: report.html, and of the laboratory figures/ and tables/."""
    from tailkeep import report as room

    if _is_edit(directory):
        print(f"report: {room.write_edits(directory)}")
    else:
        _report(directory)


@app.command()
def show(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    samples: Annotated[
        int | None, typer.Option(min=0, help="Of the laboratory: sample texts of each generation; 1 if not given.")
    ] = None,
    edits: Annotated[int | None, typer.Option(min=0, help="Of an edit: edits to print; 20 if not given.")] = None,
) -> None:
    """Print a run: what it is and what it found, with texts."""
    from tailkeep import report as room

    is_edit = _is_edit(directory)
    if (samples if is_edit else edits) is not None:
        wrong, right = ("--samples", "--edits") if is_edit else ("--edits", "--samples")
        raise typer.BadParameter(f"a run of this kind has none; give {right}.", param_hint=wrong)
    if is_edit:
        room.show_edits(directory, Console(), edits=20 if edits is None else edits)
    else:
        room.show(directory, Console(), samples=1 if samples is None else samples)


@app.command()
def world(
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    overrides: WorldKeys = None,
    prior: Annotated[bool, typer.Option(help="Also train a small language model on the corpus.")] = True,
) -> None:
    """Write a corpus with known truth, its questions and a small trained prior, to try everything on."""
    from tailkeep import lab as room
    from tailkeep.config import parse_assignments

    for path in room.write_world(out, parse_assignments(overrides or []), prior=prior, tell=_tell):
        print(path)


def _is_edit(directory: Path) -> bool:
    from tailkeep.runs import RunDirectory

    return RunDirectory.open(directory).record.kind == "edit"


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as a tree."""
    inner = {key: _given(value) if isinstance(value, Mapping) else value for key, value in options.items()}
    return {key: value for key, value in inner.items() if value}


def _tell_interrupted() -> None:
    _tell("interrupted: run the same command again to go on from what is finished.")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _report(directory: Path) -> None:
    from tailkeep import report as room

    page = room.write(directory)
    room.print_summary(directory, Console())
    print(f"report: {page}")


def _print_recipes(recipes: Any) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("recipe")
    table.add_column("what it shows")
    for recipe in recipes:
        table.add_row(Text(recipe.name), Text(" ".join(recipe.shows.split())))
    Console().print(table)


class _Redacted(logging.Formatter):
    """Log lines without credentials and without characters that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        """The line as it may be shown."""
        return visible(redact(super().format(record)))


def _print_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A fault of ours: its traceback, shown as safely as a log line. Python then exits with 1."""
    print(visible(redact("".join(traceback.format_exception(kind, error, trace)))), file=sys.stderr, end="")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
