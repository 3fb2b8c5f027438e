"""`tailkeep edit`: resample the tokens to which a prior gives a high probability."""

from pathlib import Path
from typing import Annotated

import typer

from tailkeep.cli import corpus_options as shared
from tailkeep.runs.progress import show_progress

EditKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as rule.threshold=0.9. Repeatable."),
]


def edit(
    inputs: shared.InputOption = None,
    prior: Annotated[
        str | None, typer.Option(metavar="PATH", help="A causal language model: a folder, hub id or GGUF file.")
    ] = None,
    out: shared.OutOption = None,
    config: shared.ConfigFile = None,
    overrides: EditKeys = None,
    workers: shared.Workers = 1,
    executor: shared.ExecutorOption = shared.ExecutorName.LOCAL,
    task_index: shared.TaskIndex = None,
    num_tasks: shared.NumTasks = None,
    dry_run: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Edit N documents, print an estimate, and write nothing.")
    ] = None,
    text_field: shared.TextField = None,
    id_field: shared.IdField = None,
    document_separator: shared.DocumentSeparator = None,
    max_document_bytes: shared.MaxDocumentBytes = None,
    file_format: shared.FileFormat = None,
    ignore: shared.Ignore = None,
    on_error: shared.OnErrorOption = None,
    previous_run: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="A previous run: refuse copies of its output. Repeatable."),
    ] = None,
    sample_weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Output of tailkeep select: exclude documents of weight 0.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Edit a corpus that is edited already.")] = False,
    verify: shared.Verify = False,
    dump_config: shared.DumpConfig = False,
) -> None:
    """Resample the tokens to which a prior gives a high probability, and leave every other character as it is."""
    from tailkeep import edit as edits

    options = {
        "prior": {"path": prior},
        "layout": shared.layout_options(
            text_field, id_field, document_separator, max_document_bytes, file_format, ignore
        ),
        "on_error": on_error,
        "previous_runs": previous_run,
        "sample_weights": None if sample_weights is None else str(sample_weights),
        "force": force,
    }
    edit_config = edits.load(config, overrides=overrides or [], options=shared.given_options(options))
    if dump_config:
        print(edits.dump(edit_config), end="")
        return
    paths = shared.require_option(inputs, "--input", "give what to edit, such as --input 'corpus/*.jsonl'.")
    if dry_run is not None:
        idle = {
            "--executor": executor is not shared.ExecutorName.LOCAL,
            "--workers": workers != 1,
            "--task-index": task_index is not None,
            "--num-tasks": num_tasks is not None,
            "--verify": verify,
        }
        for name, is_set in idle.items():
            if is_set:
                raise typer.BadParameter("a dry run is one process here; leave it out.", param_hint=name)
        print("\n".join(edits.estimate(edit_config, paths, limit=dry_run).lines()))
        return
    out = shared.require_option(out, "--out", "give where to write to, such as --out edited.")
    gpus = edits.gpus_for(edit_config)
    execution = shared.execution_arguments(
        workers, executor, task_index, num_tasks, cpus=edit_config.num_threads, gpus=gpus
    )
    with show_progress() as observe:
        outcome = edits.run(edit_config, paths, out, verify=verify, **execution, observe=observe)
    shared.print_outcome(outcome, out)
