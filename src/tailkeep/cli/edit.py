"""`tailkeep edit`: the tokens that a prior is sure of are drawn anew."""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailkeep.cli.messages import tell
from tailkeep.errors import ExitCode
from tailkeep.redaction import redact
from tailkeep.visible import visible

if TYPE_CHECKING:
    from tailkeep.edit import EditConfig
    from tailkeep.integrations.ray import RayActors

EditKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as rule.threshold=0.9. Repeatable."),
]


class Engine(StrEnum):
    """Who works on the shards."""

    LOCAL = "local"
    RAY = "ray"


def edit(
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="GLOB", help="Files, folders or globs, local or as URLs. Repeatable."),
    ] = None,
    prior: Annotated[
        str | None, typer.Option(metavar="PATH", help="A causal language model: a folder or hub id.")
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="The output, new or to be resumed.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A YAML file with any of the keys.")] = None,
    overrides: EditKeys = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side, each with the prior.")] = 1,
    engine: Annotated[
        Engine, typer.Option(help="Where they run: on this machine, or as actors of the Ray cluster at RAY_ADDRESS.")
    ] = Engine.LOCAL,
    task_index: Annotated[
        int | None, typer.Option(min=0, help="Number of this job, from 0; in a Slurm array its own.")
    ] = None,
    num_tasks: Annotated[int | None, typer.Option(min=1, help="How many jobs share the work.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Try so many documents, print what to expect, and write nothing.")
    ] = None,
    text_field: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="A field to edit, such as text or a.b. Repeatable.")
    ] = None,
    id_field: Annotated[str | None, typer.Option(metavar="PATH", help="The field with the document's id.")] = None,
    document: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="A document of plain text: line, file, blank-line or up to a separator."),
    ] = None,
    max_document_bytes: Annotated[int | None, typer.Option(min=1, help="A longer document is rejected.")] = None,
    on_error: Annotated[
        str | None, typer.Option(metavar="stop|skip", help="Stop at a document that cannot be read, or reject it.")
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="An earlier run: refuse copies of what it wrote. Repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Edit a corpus that is edited already.")] = False,
    dump_config: Annotated[bool, typer.Option("--dump-config", help="Print the resolved config and exit.")] = False,
) -> None:
    """Flag the tokens that a prior is sure of, draw them from it, and leave every other character as it is."""
    from tailkeep import edit as room

    layout = {
        "text_fields": text_field,
        "id_field": id_field,
        "document": document,
        "max_document_bytes": max_document_bytes,
    }
    options = {"prior": {"path": prior}, "layout": layout, "on_error": on_error, "anchors": anchor, "force": force}
    chosen = room.load(config, overrides=overrides or [], options=_given(options))
    if dump_config:
        print(room.dump(chosen), end="")
        return
    if not inputs:
        raise typer.BadParameter("give what to edit, such as --input 'corpus/*.jsonl'.", param_hint="--input")
    if limit is not None:
        if engine is not Engine.LOCAL:
            raise typer.BadParameter("a sample is taken on this machine; leave it out.", param_hint="--engine")
        print("\n".join(room.estimate(chosen, inputs, limit=limit).lines()))
        return
    if out is None:
        raise typer.BadParameter("give where to write to, such as --out edited.", param_hint="--out")
    task = room.task_here(task_index, num_tasks, os.environ)
    hands = {"workers": workers} if engine is Engine.LOCAL else {"executor": _actors(workers, chosen)}
    outcome = room.run(chosen, inputs, out, **hands, task=task, observe=room.Lines())
    for line in outcome.warnings():
        tell(f"warning: {visible(redact(line), newline=' ')}.")
    print(visible("\n".join([*outcome.lines(), f"output: {redact(out)}"])), flush=True)
    if outcome.rejected:
        first = visible(redact(outcome.rejects.first), newline=" ")
        tell(f"rejected: {outcome.rejected:,} documents, see {redact(out)}/rejects/. The first is {first}.")
        raise typer.Exit(ExitCode.DONE_WITH_REJECTS)


def _actors(workers: int, config: "EditConfig") -> "RayActors":
    # Ray prints what it tells of lost actors on stdout, where results go; the executor tells of them itself.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    from tailkeep.integrations.ray import RayActors
    from tailkeep.scoring import uses_gpu

    return RayActors(workers, cpus=config.threads, gpus=int(uses_gpu(config.prior)))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as a tree."""
    inner = {key: _given(value) if isinstance(value, Mapping) else value for key, value in options.items()}
    return {key: value for key, value in inner.items() if value}
