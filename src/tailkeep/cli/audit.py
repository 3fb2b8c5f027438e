"""`tailkeep audit`: what a corpus is made of, and how it differs from trusted text."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from tailkeep.cli.corpus_options import (
    DocumentKind,
    DumpConfig,
    EngineOption,
    ExecutorName,
    IdField,
    MaxDocumentBytes,
    NumTasks,
    OnErrorOption,
    OutOption,
    TaskIndex,
    actors,
    given,
    tell_outcome,
)

AuditKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as sample.documents=500. Repeatable."),
]


def audit(
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="GLOB", help="Files, folders or globs, local or as URLs. Repeatable."),
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Trusted human text of the same kind. Repeatable.")
    ] = None,
    prior: Annotated[
        str | None, typer.Option(metavar="PATH", help="A causal language model to be asked too: a folder or hub id.")
    ] = None,
    out: OutOption = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A YAML file with any of the keys.")] = None,
    overrides: AuditKeys = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    engine: EngineOption = ExecutorName.LOCAL,
    task_index: TaskIndex = None,
    num_tasks: NumTasks = None,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Look for near duplicates too (MinHash), which takes longer.")
    ] = False,
    compression: Annotated[
        str | None, typer.Option(metavar="zlib|zstd", help="Compress the text too, which takes longer.")
    ] = None,
    memory_mb: Annotated[int | None, typer.Option(min=16, help="Megabytes for counts, of each worker.")] = None,
    text_field: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="A field to count, such as text or a.b. Repeatable.")
    ] = None,
    id_field: IdField = None,
    document: DocumentKind = None,
    max_document_bytes: MaxDocumentBytes = None,
    on_error: OnErrorOption = None,
    dump_config: DumpConfig = False,
) -> None:
    """Tell what a corpus is made of, how it differs from trusted text, and what that means for training on it."""
    from tailkeep import audit as room

    layout = {
        "text_fields": text_field,
        "id_field": id_field,
        "document": document,
        "max_document_bytes": max_document_bytes,
    }
    options = {"prior": {"path": prior}, "layout": layout, "on_error": on_error, "memory_mb": memory_mb}
    chosen = room.load(
        config,
        overrides=overrides or [],
        options=given({**options, "compression": compression}) | ({"near_duplicates": {}} if near_duplicates else {}),
    )
    if dump_config:
        print(room.dump(chosen), end="")
        return
    if not inputs:
        raise typer.BadParameter("give what to audit, such as --input 'corpus/*.jsonl'.", param_hint="--input")
    if out is None:
        raise typer.BadParameter("give where to write to, such as --out audited.", param_hint="--out")
    task = room.task_here(task_index, num_tasks, os.environ)
    hands: dict[str, Any] = {"workers": workers}
    if engine is ExecutorName.RAY:
        hands = {"executor": actors(workers, cpus=chosen.num_threads, gpus=room.gpus_for(chosen))}
    outcome = room.run(chosen, inputs, out, against=against or [], **hands, task=task, observe=room.ProgressPrinter())
    tell_outcome(outcome, out)
