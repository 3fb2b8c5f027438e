"""What several commands share: options, the execution of a run, and how they print its outcome.

Rule: every option is a key of the config or an argument of `run`.
"""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tailkeep.errors import ExitCode
from tailkeep.runs.progress import print_status
from tailkeep.sanitize import redact, visible

if TYPE_CHECKING:
    from tailkeep.data.corpus import RunOutcome
    from tailkeep.integrations.ray import RayActors


class ExecutorName(StrEnum):
    """Where the shards are processed."""

    LOCAL = "local"
    RAY = "ray"


Value = TypeVar("Value")
InputOption = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="GLOB", help="Files, folders or globs, local or as URLs. Repeatable."),
]
OutOption = Annotated[str | None, typer.Option(metavar="DIR", help="The output, new or to be resumed.")]
ConfigFile = Annotated[Path | None, typer.Option(metavar="FILE", help="A YAML file with any of the keys.")]
Workers = Annotated[int, typer.Option(min=1, help="Worker processes, each with its own prior.")]
ExecutorOption = Annotated[
    ExecutorName, typer.Option(help="Run on this machine, or as actors of the Ray cluster at RAY_ADDRESS.")
]
TaskIndex = Annotated[int | None, typer.Option(min=0, help="Number of this job, from 0; in a Slurm array its own.")]
NumTasks = Annotated[int | None, typer.Option(min=1, help="How many jobs share the work.")]
TextField = Annotated[
    list[str] | None, typer.Option(metavar="PATH", help="A field with text, such as text or a.b. Repeatable.")
]
IdField = Annotated[str | None, typer.Option(metavar="PATH", help="The field with the document's id.")]
DocumentSeparator = Annotated[
    str | None,
    typer.Option(metavar="KIND", help="What ends a document of plain text: line (default), file, blank-line or text."),
]
FileFormat = Annotated[
    str | None,
    typer.Option("--format", metavar="KIND", help="What all files are: jsonl, json, csv, tsv, txt or parquet."),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Files of a folder or glob to leave out, such as '*.npy'. Repeatable."),
]
MaxDocumentBytes = Annotated[int | None, typer.Option(min=1, help="A longer document is rejected.")]
OnErrorOption = Annotated[
    str | None, typer.Option(metavar="stop|skip", help="Stop at a document that cannot be read, or reject it.")
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Check the sha256 of all finished outputs first, and make damaged ones again.")
]
DumpConfig = Annotated[bool, typer.Option("--dump-config", help="Print the resolved config and exit.")]


def print_outcome(outcome: "RunOutcome", out: str) -> None:
    """Print what a run into `out` found, warn, and end with a code of its own if documents were rejected."""
    for line in outcome.warnings():
        print_status(f"warning: {visible(redact(line), newline=' ')}.")
    print(visible("\n".join([*outcome.lines(), f"output: {redact(out)}"])), flush=True)
    if outcome.rejected:
        first = visible(redact(outcome.rejects.first), newline=" ")
        print_status(f"rejected: {outcome.rejected:,} documents, see {redact(out)}/rejects/. The first is {first}.")
        raise typer.Exit(ExitCode.DONE_WITH_REJECTS)


def layout_options(
    text_field: list[str] | None,
    id_field: str | None,
    document_separator: str | None,
    max_document_bytes: int | None,
    file_format: str | None,
    ignore: list[str] | None,
) -> dict[str, Any]:
    """The options of a layout by the keys of the config."""
    return {
        "format": file_format,
        "ignore": ignore,
        "text_fields": text_field,
        "id_field": id_field,
        "document_separator": document_separator,
        "max_document_bytes": max_document_bytes,
    }


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as a tree. A number 0 and an empty text are given; a flag that is off is not."""
    inner = {key: given_options(value) if isinstance(value, Mapping) else value for key, value in options.items()}
    return {key: value for key, value in inner.items() if not (value is None or value is False or value in ([], {}))}


def require_option(value: Value | None, option: str, message: str) -> Value:
    """`value`, which the user must give as `option`.

    Raises:
        typer.BadParameter: it is empty or missing.
    """
    if not value:
        raise typer.BadParameter(message, param_hint=option)
    return value


def execution_arguments(
    workers: int, executor: ExecutorName, task_index: int | None, num_tasks: int | None, *, cpus: int, gpus: int
) -> dict[str, Any]:
    """The arguments of `run` that decide where the shards are processed; a worker uses so many `cpus` and `gpus`.

    Raises:
        ConfigError: only one of `task_index` and `num_tasks` is known.
    """
    from tailkeep.data.corpus import task_here

    task = task_here(task_index, num_tasks, os.environ)
    where: dict[str, Any] = {"workers": workers}
    if executor is ExecutorName.RAY:
        where = {"executor": make_ray_actors(workers, cpus=cpus, gpus=gpus)}
    return {**where, "task": task}


def make_ray_actors(workers: int, *, cpus: int, gpus: int) -> "RayActors":
    """Actors on a Ray cluster that each reserve so many `cpus` and `gpus`."""
    # Ray prints what it tells of lost actors on stdout, where results go; the executor tells of them itself.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    from tailkeep.integrations.ray import RayActors

    return RayActors(workers, cpus=cpus, gpus=gpus)
