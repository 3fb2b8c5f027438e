"""The command `tailkeep audit`. Rule: every option is a key of `AuditConfig` or an argument of `audit.run`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from tailkeep.cli.corpus_options import (
    DocumentSeparator,
    DumpConfig,
    ExecutorName,
    ExecutorOption,
    IdField,
    MaxDocumentBytes,
    NumTasks,
    OnErrorOption,
    OutOption,
    TaskIndex,
    given_options,
    print_outcome,
    ray_actors,
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
    reference: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Trusted human text of the same kind. Repeatable.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Also score the text with this causal LM (folder or hub id)."),
    ] = None,
    out: OutOption = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A YAML file with any of the keys.")] = None,
    overrides: AuditKeys = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 1,
    executor: ExecutorOption = ExecutorName.LOCAL,
    task_index: TaskIndex = None,
    num_tasks: NumTasks = None,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Also count near duplicates (MinHash). Takes longer.")
    ] = False,
    compression: Annotated[
        str | None, typer.Option(metavar="zlib|zstd", help="Also measure the compression ratio. Takes longer.")
    ] = None,
    memory_mb: Annotated[int | None, typer.Option(min=16, help="Memory for counts per worker, in MB.")] = None,
    text_field: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="A field to count, such as text or a.b. Repeatable.")
    ] = None,
    id_field: IdField = None,
    document_separator: DocumentSeparator = None,
    max_document_bytes: MaxDocumentBytes = None,
    on_error: OnErrorOption = None,
    dump_config: DumpConfig = False,
) -> None:
    """Describe a corpus, test how it differs from trusted text, and say what that means for training on it."""
    from tailkeep.audit import ProgressPrinter, dump, gpus_for, load, run, task_here

    layout = {
        "text_fields": text_field,
        "id_field": id_field,
        "document_separator": document_separator,
        "max_document_bytes": max_document_bytes,
    }
    options = {"prior": {"path": prior}, "layout": layout, "on_error": on_error, "memory_mb": memory_mb}
    audit_config = load(
        config,
        overrides=overrides or [],
        options=given_options({**options, "compression": compression})
        | ({"near_duplicates": {}} if near_duplicates else {}),
    )
    if dump_config:
        print(dump(audit_config), end="")
        return
    if not inputs:
        raise typer.BadParameter("give the files to audit, such as --input 'corpus/*.jsonl'.", param_hint="--input")
    if out is None:
        raise typer.BadParameter("give the output folder, such as --out audited.", param_hint="--out")
    task = task_here(task_index, num_tasks, os.environ)
    execution: dict[str, Any] = {"workers": workers}
    if executor is ExecutorName.RAY:
        execution = {"executor": ray_actors(workers, cpus=audit_config.num_threads, gpus=gpus_for(audit_config))}
    outcome = run(
        audit_config, inputs, out, reference=reference or [], **execution, task=task, observe=ProgressPrinter()
    )
    print_outcome(outcome, out)
