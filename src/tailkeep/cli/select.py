"""The command `tailkeep select`: weights for the documents of an audited corpus."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tailkeep.errors import ExitCode
from tailkeep.runs.progress import print_status
from tailkeep.sanitize import redact, visible


class Method(StrEnum):
    """How documents are weighted."""

    PERPLEXITY = "perplexity"
    SURPLEXITY = "surplexity"
    DSIR = "dsir"
    SCORES = "scores"


class OnErrorName(StrEnum):
    """What a document at fault does."""

    STOP = "stop"
    SKIP = "skip"


def select(
    audited: Annotated[Path, typer.Argument(metavar="AUDIT", help="The output of a finished tailkeep audit.")],
    method: Annotated[
        Method,
        typer.Option(help="Keep low or high perplexity, resample by DSIR importance, or read scores."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where weights/ goes.")],
    keep: Annotated[float, typer.Option(help="Share of the documents to keep. Of scores: those above 0.")] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the method dsir.")] = 0,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="GLOB", help="The audited input again, for the method dsir.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="jsonl of document_id and score, for the method scores.")
    ] = None,
    on_error: Annotated[
        OnErrorName | None,
        typer.Option(
            metavar="stop|skip",
            help="Stop at a document that cannot be read or has an earlier one's id, or reject it; as in the audit.",
        ),
    ] = None,
) -> None:
    """Weight the documents of an audited corpus, for `tailkeep edit --sample-weights` and `data.weights` of the lab."""
    from tailkeep import audit

    skip = {None: None, OnErrorName.STOP: False, OnErrorName.SKIP: True}[on_error]
    counts = audit.select(
        audited, out, method.value, keep=keep, seed=seed, inputs=inputs or (), scores=scores, skip=skip
    )
    print(f"{counts.selected:,} of {counts.documents:,} documents of {counts.files} files have a weight above 0")
    print(f"weights: {out}/weights", flush=True)
    if counts.rejected:
        first = visible(redact(counts.first_rejected), newline=" ")
        print_status(f"rejected: {counts.rejected:,} documents, see {out}/rejects.jsonl. The first is {first}.")
        raise typer.Exit(ExitCode.DONE_WITH_REJECTS)
