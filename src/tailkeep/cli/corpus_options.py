"""Options that commands over a corpus share, their executor, and how they print their outcome."""

import os
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from tailkeep.cli.output import print_status
from tailkeep.errors import ExitCode
from tailkeep.sanitize import redact, visible

if TYPE_CHECKING:
    from tailkeep.data.corpus import Rejects
    from tailkeep.integrations.ray import RayActors


class ExecutorName(StrEnum):
    """Where the shards are processed."""

    LOCAL = "local"
    RAY = "ray"


ExecutorOption = Annotated[
    ExecutorName, typer.Option(help="Run on this machine, or as actors of the Ray cluster at RAY_ADDRESS.")
]
TaskIndex = Annotated[int | None, typer.Option(min=0, help="Number of this job, from 0; in a Slurm array its own.")]
NumTasks = Annotated[int | None, typer.Option(min=1, help="How many jobs share the work.")]
IdField = Annotated[str | None, typer.Option(metavar="PATH", help="The field with the document's id.")]
DocumentSeparator = Annotated[
    str | None,
    typer.Option(metavar="KIND", help="What ends a document of plain text: line, file, blank-line or a separator."),
]
MaxDocumentBytes = Annotated[int | None, typer.Option(min=1, help="A longer document is rejected.")]
OnErrorOption = Annotated[
    str | None, typer.Option(metavar="stop|skip", help="Stop at a document that cannot be read, or reject it.")
]
OutOption = Annotated[str | None, typer.Option(metavar="DIR", help="The output, new or to be resumed.")]
DumpConfig = Annotated[bool, typer.Option("--dump-config", help="Print the resolved config and exit.")]


class PrintableOutcome(Protocol):
    """What is known of a run when the command ends."""

    @property
    def rejected(self) -> int:
        """How many documents are rejected."""

    @property
    def rejects(self) -> "Rejects":
        """What they say."""

    def lines(self) -> list[str]:
        """What it found, in words."""

    def warnings(self) -> list[str]:
        """What should be looked at."""


def print_outcome(outcome: PrintableOutcome, out: str) -> None:
    """Print what a run into `out` found, warn, and end with a code of its own if documents were rejected."""
    for line in outcome.warnings():
        print_status(f"warning: {visible(redact(line), newline=' ')}.")
    print(visible("\n".join([*outcome.lines(), f"output: {redact(out)}"])), flush=True)
    if outcome.rejected:
        first = visible(redact(outcome.rejects.first), newline=" ")
        print_status(f"rejected: {outcome.rejected:,} documents, see {redact(out)}/rejects/. The first is {first}.")
        raise typer.Exit(ExitCode.DONE_WITH_REJECTS)


def ray_actors(workers: int, *, cpus: int, gpus: int) -> "RayActors":
    """The executor that works with `workers` actors of a Ray cluster, each with so many processors."""
    # Ray prints what it tells of lost actors on stdout, where results go; the executor tells of them itself.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    from tailkeep.integrations.ray import RayActors

    return RayActors(workers, cpus=cpus, gpus=gpus)


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as a tree."""
    inner = {key: given_options(value) if isinstance(value, Mapping) else value for key, value in options.items()}
    return {key: value for key, value in inner.items() if value}
