"""`tailkeep edit`: the tokens that a prior is sure of are drawn anew."""

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
    given_options,
    tell_outcome,
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
    engine: EngineOption = ExecutorName.LOCAL,
    task_index: TaskIndex = None,
    num_tasks: NumTasks = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Try so many documents, print what to expect, and write nothing.")
    ] = None,
    text_field: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="A field to edit, such as text or a.b. Repeatable.")
    ] = None,
    id_field: IdField = None,
    document: DocumentKind = None,
    max_document_bytes: MaxDocumentBytes = None,
    on_error: OnErrorOption = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="An earlier run: refuse copies of what it wrote. Repeatable."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="What tailkeep select wrote: leave out documents of weight 0.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Edit a corpus that is edited already.")] = False,
    dump_config: DumpConfig = False,
) -> None:
    """Flag the tokens that a prior is sure of, draw them from it, and leave every other character as it is."""
    from tailkeep import edit as room

    layout = {
        "text_fields": text_field,
        "id_field": id_field,
        "document": document,
        "max_document_bytes": max_document_bytes,
    }
    options = {"prior": {"path": prior}, "layout": layout, "on_error": on_error, "anchors": anchor, "force": force} | {
        "weights": None if weights is None else str(weights)
    }
    edit_config = room.load(config, overrides=overrides or [], options=given_options(options))
    if dump_config:
        print(room.dump(edit_config), end="")
        return
    if not inputs:
        raise typer.BadParameter("give what to edit, such as --input 'corpus/*.jsonl'.", param_hint="--input")
    if limit is not None:
        if engine is not ExecutorName.LOCAL:
            raise typer.BadParameter("a sample is taken on this machine; leave it out.", param_hint="--engine")
        print("\n".join(room.estimate(edit_config, inputs, limit=limit).lines()))
        return
    if out is None:
        raise typer.BadParameter("give where to write to, such as --out edited.", param_hint="--out")
    task = room.task_here(task_index, num_tasks, os.environ)
    hands: dict[str, Any] = {"workers": workers}
    if engine is ExecutorName.RAY:
        from tailkeep.scoring import uses_gpu

        hands = {"executor": actors(workers, cpus=edit_config.num_threads, gpus=int(uses_gpu(edit_config.prior)))}
    outcome = room.run(edit_config, inputs, out, **hands, task=task, observe=room.ProgressPrinter())
    tell_outcome(outcome, out)
