"""`tailkeep audit`, and `tailkeep select`: weights for the documents of an audited corpus.

Rule: every option is a key of `AuditConfig` or an argument of `audit.run` or `audit.select`.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailkeep.cli import corpus_options as shared
from tailkeep.errors import ExitCode
from tailkeep.runs.progress import print_status, show_progress
from tailkeep.sanitize import redact, visible

if TYPE_CHECKING:
    from tailkeep.audit import AuditOutcome, Condition

AuditKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as sample.documents=500. Repeatable."),
]


class SelectMethod(StrEnum):
    """How documents are weighted."""

    PERPLEXITY = "perplexity"
    SURPLEXITY = "surplexity"
    DSIR = "dsir"
    SCORES = "scores"


class SelectOnError(StrEnum):
    """What a document at fault does."""

    STOP = "stop"
    SKIP = "skip"


def audit(
    inputs: shared.InputOption = None,
    reference: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Trusted human text of the same kind. Repeatable.")
    ] = None,
    synthetic: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Text that models wrote: how much of the input is like it? Repeatable."),
    ] = None,
    second_reference: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Human text of another genre: does it differ in the same way? Repeatable."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="With --synthetic, also by source: a field, the host of a field with a URL, or 'file'.",
        ),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Also score the text with this causal LM (folder, hub id or GGUF file)."),
    ] = None,
    out: shared.OutOption = None,
    config: shared.ConfigFile = None,
    overrides: AuditKeys = None,
    workers: shared.Workers = 1,
    executor: shared.ExecutorOption = shared.ExecutorName.LOCAL,
    task_index: shared.TaskIndex = None,
    num_tasks: shared.NumTasks = None,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Also count near duplicates (MinHash). Takes longer.")
    ] = False,
    compression: Annotated[
        str | None, typer.Option(metavar="zlib|zstd", help="Also measure the compression ratio. Takes longer.")
    ] = None,
    memory_mb: Annotated[int | None, typer.Option(min=16, help="Memory for counts per worker, in MB.")] = None,
    text_field: shared.TextField = None,
    id_field: shared.IdField = None,
    document_separator: shared.DocumentSeparator = None,
    max_document_bytes: shared.MaxDocumentBytes = None,
    file_format: shared.FileFormat = None,
    ignore: shared.Ignore = None,
    on_error: shared.OnErrorOption = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Exit with 5 if it is met, such as 'share > 0.05', or 'flagged > 0' of statistics and language. "
            "Repeatable.",
        ),
    ] = None,
    verify: shared.Verify = False,
    dump_config: shared.DumpConfig = False,
) -> None:
    """Describe a corpus, test how it differs from trusted text, and say what that means for training on it."""
    from tailkeep import audit as audits

    options = {
        "prior": {"path": prior},
        "layout": shared.layout_options(
            text_field, id_field, document_separator, max_document_bytes, file_format, ignore
        ),
        "share": {"by": by},
        "on_error": on_error,
        "compression": compression,
        "memory_mb": memory_mb,
    }
    # An empty mapping means the defaults; `given_options` would drop it.
    tree = shared.given_options(options) | ({"near_duplicates": {}} if near_duplicates else {})
    audit_config = audits.load(config, overrides=overrides or [], options=tree)
    if dump_config:
        print(audits.dump(audit_config), end="")
        return
    conditions = [audits.parse_condition(text) for text in fail_if or ()]
    is_set = {
        "--reference": bool(reference),
        "--synthetic": bool(synthetic),
        "--near-duplicates": audit_config.near_duplicates is not None,
    }
    for item in conditions:
        if not all(is_set[option] for option in item.needs):
            raise typer.BadParameter(f"{item.metric} needs {' and '.join(item.needs)}.", param_hint="--fail-if")
    paths = shared.require_option(inputs, "--input", "give the files to audit, such as --input 'corpus/*.jsonl'.")
    out = shared.require_option(out, "--out", "give the output folder, such as --out audited.")
    gpus = audits.gpus_for(audit_config)
    execution = shared.execution_arguments(
        workers, executor, task_index, num_tasks, cpus=audit_config.num_threads, gpus=gpus
    )
    with show_progress() as observe:
        outcome = audits.run(
            audit_config,
            paths,
            out,
            reference=reference or [],
            synthetic=synthetic or [],
            second_reference=second_reference or [],
            verify=verify,
            **execution,
            observe=observe,
        )
    try:
        shared.print_outcome(outcome, out)
    except typer.Exit:
        # A condition that is met says more than rejected documents, which were printed.
        _judge(outcome, conditions)
        raise
    _judge(outcome, conditions)


def _judge(outcome: "AuditOutcome", conditions: Sequence["Condition"]) -> None:
    """Exit with a code of its own if a condition is met.

    Raises:
        InputError: a metric has no value.
    """
    if conditions and not outcome.complete:
        print_status("--fail-if: not judged, since not all shards are finished.")
        return
    if met := [item.text for item in conditions if item.is_met(outcome.summary)]:
        print_status(f"--fail-if: met by this corpus: {visible('; '.join(met), newline=' ')}.")
        raise typer.Exit(ExitCode.CONDITION_MET)


def select(
    audited: Annotated[Path, typer.Argument(metavar="AUDIT", help="The output of a finished tailkeep audit.")],
    method: Annotated[
        SelectMethod,
        typer.Option(help="Keep low or high perplexity, resample by DSIR importance, or read scores."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where weights/ goes.")],
    keep: Annotated[
        float | None, typer.Option(help="Share of the documents to keep, 0.5 by default. Not for the method scores.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the method dsir, 0 by default.")] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="GLOB", help="The audited input again, for the method dsir.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="jsonl of document_id and score, for the method scores.")
    ] = None,
    on_error: Annotated[
        SelectOnError | None,
        typer.Option(
            metavar="stop|skip",
            help="Stop at a document that cannot be read or has an earlier one's id, or reject it; as in the audit.",
        ),
    ] = None,
) -> None:
    """Weight the documents of an audited corpus, for `tailkeep edit --sample-weights` and `data.weights` of the lab."""
    from tailkeep import audit as audits

    skip = {None: None, SelectOnError.STOP: False, SelectOnError.SKIP: True}[on_error]
    counts = audits.select(
        audited, out, method.value, keep=keep, seed=seed, inputs=inputs or (), scores=scores, skip=skip
    )
    print(f"{counts.selected:,} of {counts.documents:,} documents of {counts.files} files have a weight above 0")
    print(f"weights: {out}/weights", flush=True)
    if counts.rejected:
        first = visible(redact(counts.first_rejected), newline=" ")
        print_status(f"rejected: {counts.rejected:,} documents, see {out}/rejects.jsonl. The first is {first}.")
        raise typer.Exit(ExitCode.DONE_WITH_REJECTS)
