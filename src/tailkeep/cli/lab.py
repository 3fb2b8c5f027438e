"""`tailkeep lab`, `world` (a corpus with known truth), `pack` and `merge`: runs of the laboratory, made and joined."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tailkeep.cli.corpus_options import ExecutorName, ExecutorOption, make_ray_actors
from tailkeep.cli.report import print_report
from tailkeep.runs.progress import print_status, show_progress

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as preset=full. Repeatable."),
]
WorldKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the world, such as people=100. Repeatable."),
]


def _complete_recipe(incomplete: str) -> list[str]:
    from tailkeep.lab import list_recipes

    return [recipe.name for recipe in list_recipes() if recipe.name.startswith(incomplete)]


def lab(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME|FILE", help="A recipe's name, or a YAML file.", autocompletion=_complete_recipe),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run directory, new or to be resumed.")] = None,
    overrides: Overrides = None,
    arms: Annotated[str | None, typer.Option(metavar="NAME,NAME", help="Run only these arms; all by default.")] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="Parallel processes; 0 means one per core on a CPU, one on a GPU, one per chain on Ray."
        ),
    ] = 0,
    executor: ExecutorOption = ExecutorName.LOCAL,
    recompute: Annotated[
        list[str] | None,
        typer.Option(metavar="ARM", help="Move this arm's generations aside and compute it again. Repeatable."),
    ] = None,
    accept_versions: Annotated[
        bool, typer.Option("--accept-versions", help="Continue a run that other versions or another device computed.")
    ] = False,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Run the code (module:name) that the configuration names.")
    ] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List the recipes and exit.")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Time a few steps, print hours and disk of the whole run, and exit.")
    ] = False,
    dump_config: Annotated[bool, typer.Option("--dump-config", help="Print the resolved config and exit.")] = False,
) -> None:
    """Train generation after generation on model-generated data, and measure what is lost."""
    from tailkeep import lab as laboratory

    if list_all:
        _print_recipes(laboratory.list_recipes())
        return
    if name is None:
        raise typer.BadParameter(
            "give a recipe's name or a YAML file; --list shows the recipes.", param_hint="NAME|FILE"
        )
    config = laboratory.load(name, overrides=overrides or [], arms=_split_names(arms))
    if dump_config:
        print(laboratory.dump(config), end="")
        return
    beside = [str(Path(name).resolve().parent)] if Path(name).suffix in {".yaml", ".yml"} else []
    if not allow_code:
        laboratory.refuse_code(config, [*beside, *sys.path])
    # Last, so that a file beside the configuration hides no installed module; workers inherit the path.
    sys.path.extend(folder for folder in beside if folder not in sys.path)
    on_ray = executor is ExecutorName.RAY
    num_workers = workers or (len(config.arms) * len(config.seeds) if on_ray else laboratory.default_workers(config))
    if estimate:
        with show_progress() as show:
            lines = laboratory.estimate(config, workers=num_workers, show=show).lines()
        print("\n".join(lines))
        return
    if out is None:
        raise typer.BadParameter("give the folder to write to, such as --out runs/demo.", param_hint="--out")
    where: dict[str, Any] = {"workers": num_workers}
    if on_ray:
        gpus = laboratory.num_gpus(config)
        where = {"executor": make_ray_actors(num_workers, cpus=config.num_threads, gpus=gpus)}
    with show_progress() as show:
        observe = laboratory.cell_progress(show, config.num_recorded)
        laboratory.run(
            config,
            out,
            observe=observe,
            **where,
            accept_versions=accept_versions,
            recompute=recompute or (),
        )
    print_report(out)


def _split_names(arms: str | None) -> list[str]:
    return [] if arms is None else [arm.strip() for arm in arms.split(",")]


def _print_recipes(recipes: Any) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("recipe")
    table.add_column("what it shows")
    for recipe in recipes:
        table.add_row(Text(recipe.name), Text(" ".join(recipe.description.split())))
    Console().print(table)


def world(
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    overrides: WorldKeys = None,
    prior: Annotated[bool, typer.Option(help="Also train a small language model on the corpus.")] = True,
) -> None:
    """Write a corpus with known truth, its questions and a small trained prior, to try every command on."""
    from tailkeep import lab as laboratory
    from tailkeep.config import parse_assignments

    for path in laboratory.write_world(out, parse_assignments(overrides or []), prior=prior, on_status=print_status):
        print(path)


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

    target = out or directory.resolve().with_name(f"{directory.resolve().name}-pack")
    result = write_pack(directory, target, arms=_split_names(arms), samples=samples, words=words, max_kb=max_kb)
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
