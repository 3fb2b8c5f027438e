"""`tailkeep edit`: resample the tokens to which a prior gives a high probability."""

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

EditKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as rule.threshold=0.9. Repeatable."),
]


def edit(
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="GLOB", help="Files, folders or globs, local or as URLs. Repeatable."),
    ] = None,
    prior: Annotated[
        str | None, typer.Option(metavar="PATH", help="A causal language model: a folder or hub id.")
    ] = None,
    out: OutOption = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A YAML file with any of the keys.")] = None,
    overrides: EditKeys = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side, each with the prior.")] = 1,
    executor: ExecutorOption = ExecutorName.LOCAL,
    task_index: TaskIndex = None,
    num_tasks: NumTasks = None,
    dry_run: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Edit N documents, print an estimate, and write nothing.")
    ] = None,
    text_field: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="A field to edit, such as text or a.b. Repeatable.")
    ] = None,
    id_field: IdField = None,
    document_separator: DocumentSeparator = None,
    max_document_bytes: MaxDocumentBytes = None,
    on_error: OnErrorOption = None,
    previous_run: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="A previous run: refuse copies of its output. Repeatable."),
    ] = None,
    sample_weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Output of tailkeep select: exclude documents of weight 0.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Edit a corpus that is edited already.")] = False,
    dump_config: DumpConfig = False,
) -> None:
    """Resample the tokens to which a prior gives a high probability, and leave every other character as it is."""
    from tailkeep import edit as edits

    layout = {
        "text_fields": text_field,
        "id_field": id_field,
        "document_separator": document_separator,
        "max_document_bytes": max_document_bytes,
    }
    options = {
        "prior": {"path": prior},
        "layout": layout,
        "on_error": on_error,
        "previous_runs": previous_run,
        "sample_weights": None if sample_weights is None else str(sample_weights),
        "force": force,
    }
    edit_config = edits.load(config, overrides=overrides or [], options=given_options(options))
    if dump_config:
        print(edits.dump(edit_config), end="")
        return
    if not inputs:
        raise typer.BadParameter("give what to edit, such as --input 'corpus/*.jsonl'.", param_hint="--input")
    if dry_run is not None:
        if executor is not ExecutorName.LOCAL:
            raise typer.BadParameter("a dry run uses this machine; leave it out.", param_hint="--executor")
        print("\n".join(edits.estimate(edit_config, inputs, limit=dry_run).lines()))
        return
    if out is None:
        raise typer.BadParameter("give where to write to, such as --out edited.", param_hint="--out")
    task = edits.task_here(task_index, num_tasks, os.environ)
    execution: dict[str, Any] = {"workers": workers}
    if executor is ExecutorName.RAY:
        from tailkeep.scoring import uses_gpu

        gpus = int(uses_gpu(edit_config.prior))
        execution = {"executor": ray_actors(workers, cpus=edit_config.num_threads, gpus=gpus)}
    outcome = edits.run(edit_config, inputs, out, **execution, task=task, observe=edits.ProgressPrinter())
    print_outcome(outcome, out)
