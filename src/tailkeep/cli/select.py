"""`tailkeep select`: weights of the documents of an audited corpus."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Method(StrEnum):
    """How documents are weighed."""

    PERPLEXITY = "perplexity"
    SURPLEXITY = "surplexity"
    DSIR = "dsir"
    SCORES = "scores"


def select(
    audited: Annotated[Path, typer.Argument(metavar="AUDIT", help="The output of tailkeep audit, run to its end.")],
    method: Annotated[
        Method,
        typer.Option(help="Keep what the prior expects, or what it does not; draw by likeness; or read scores."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where weights/ goes.")],
    keep: Annotated[float, typer.Option(help="The share of the documents to keep; scores keep what is above 0.")] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Of dsir, which draws.")] = 0,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="GLOB", help="The audited input again, for dsir.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="jsonl of document_id and score, for the method scores.")
    ] = None,
) -> None:
    """Weigh the documents of an audited corpus: for `tailkeep edit --weights`, and `data.weights` of the laboratory."""
    from tailkeep import audit as room

    found = room.select(audited, out, method.value, keep=keep, seed=seed, inputs=inputs or (), scores=scores)
    print(f"{found.kept:,} of {found.documents:,} documents of {found.files} files have a weight above 0")
    print(f"weights: {out}/weights")
