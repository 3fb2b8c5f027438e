"""`tailkeep pack`: what is worth keeping of a laboratory run, in a folder small enough to commit."""

from pathlib import Path
from typing import Annotated

import typer

from tailkeep.runs.progress import print_status


def pack(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory of the laboratory.")],
    out: Annotated[Path | None, typer.Option(help="The pack's folder; RUN-pack if not given.")] = None,
    arms: Annotated[str | None, typer.Option(metavar="NAME,NAME", help="Pack only these arms; all by default.")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Sample texts of each generation and decoder.")] = 20,
    words: Annotated[bool, typer.Option(help="Keep how often each generated word occurs.")] = True,
    max_kb: Annotated[int, typer.Option(min=1, help="The most that the pack may have, in kB.")] = 500,
) -> None:
    """Write a small copy of a run: metrics, scores per question and document, word counts, some samples; no models."""
    from tailkeep.runs.pack import write_pack

    names = [] if arms is None else [arm.strip() for arm in arms.split(",")]
    target = out or directory.resolve().with_name(f"{directory.resolve().name}-pack")
    result = write_pack(directory, target, arms=names, samples=samples, words=words, max_kb=max_kb)
    for what in result.missing:
        print_status(f"without {what}: some generation does not record it")
    print(f"pack: {result.path} ({result.num_cells} generations, {result.size / 1000:.0f} kB)")


def merge(
    directories: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories or packs, two or more.")],
    out: Annotated[Path, typer.Option(help="The folder of the result, a new one.")],
    accept_versions: Annotated[
        bool, typer.Option("--accept-versions", help="Join runs of other versions or of another device.")
    ] = False,
) -> None:
    """Join runs whose shared arms are the same: all their arms, seeds and finished generations."""
    from tailkeep.lab.merge import merge_runs

    if len(directories) < 2:
        raise typer.BadParameter("give two or more runs or packs.", param_hint="RUN...")
    run = merge_runs(directories, out, accept_versions=accept_versions)
    print(f"merged: {out} ({len(run.generation_dirs())} generations of {len(directories)} runs)")
