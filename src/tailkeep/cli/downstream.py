"""`tailkeep downstream`: tests by likelihood of any model, here and for lm-evaluation-harness."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailkeep.cli.output import FiguresFile
from tailkeep.sanitize import visible

if TYPE_CHECKING:
    from tailkeep.lab.causal_lm.data_config import Downstream

app = typer.Typer(
    name="downstream", help="Tests by likelihood: multiple choice, sums, minimal pairs.", no_args_is_help=True
)

Choices = Annotated[
    list[str] | None,
    typer.Option("--choices", metavar="NAME=FILE", help="A .jsonl file of multiple choice or sums. Repeatable."),
]
Blimp = Annotated[Path | None, typer.Option(metavar="PATH", help="BLiMP: a folder or zip of minimal pairs.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Items sampled from each file; 200 if not given.")]
Pairs = Annotated[int | None, typer.Option(min=1, help="Pairs sampled from each paradigm of BLiMP; 10 if not given.")]
Skip = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=N", help="First items of a file to leave out. Repeatable."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the sample.")]


@app.command()
def run(
    model: Annotated[Path, typer.Option(metavar="PATH", help="A causal LM: a folder, hub id or GGUF file.")],
    choices: Choices = None,
    blimp: Blimp = None,
    limit: Limit = None,
    pairs: Pairs = None,
    skip: Skip = None,
    seed: Seed = 0,
    out: FiguresFile = None,
) -> None:
    """Evaluate a model: to which of several texts does it assign the highest likelihood?"""
    from tailkeep.lab.causal_lm.downstream import evaluate_model, read_tests
    from tailkeep.runs import Storage

    settings = _settings(choices, blimp, limit, pairs, skip, seed)
    tests = read_tests(settings)
    metrics = evaluate_model(model, tests)
    for name in tests:
        share, low, high, chance, items, cut = (
            metrics[f"downstream.{name}{end}"] for end in ("", ".low", ".high", ".chance", ".items", ".cut")
        )
        beyond = f", {cut:.1%} of the queries cut to fit" if cut else ""
        print(f"{name:16} {share:.3f} ({low:.3f} to {high:.3f}) of {items:,.0f}, chance {chance:.3g}{beyond}")
    if out is not None:
        Storage().write_text(
            out, json.dumps({"model": str(model), "settings": settings.model_dump(mode="json"), **metrics}) + "\n"
        )


@app.command()
def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder, to stay where it is.")],
    choices: Choices = None,
    blimp: Blimp = None,
    limit: Limit = None,
    pairs: Pairs = None,
    skip: Skip = None,
    seed: Seed = 0,
) -> None:
    """Write the same tests as tasks for lm-evaluation-harness that run offline."""
    from tailkeep.data import write_tasks
    from tailkeep.lab.causal_lm.downstream import read_tests

    for path in write_tasks(read_tests(_settings(choices, blimp, limit, pairs, skip, seed)), out):
        print(visible(str(path)))


def _settings(
    choices: list[str] | None,
    blimp: Path | None,
    limit: int | None,
    pairs: int | None,
    skip: list[str] | None,
    seed: int,
) -> "Downstream":
    from tailkeep.config import validate
    from tailkeep.lab.causal_lm.data_config import Downstream

    if not choices and blimp is None:
        raise typer.BadParameter("there is no test. Give --choices NAME=FILE, or --blimp PATH.", param_hint="--choices")
    for option, value, other, needed in (
        ("--limit", limit, "--choices", choices),
        ("--skip", skip, "--choices", choices),
        ("--pairs", pairs, "--blimp", blimp),
    ):
        if value and not needed:
            raise typer.BadParameter(f"it does nothing without {other}. Leave it out.", param_hint=option)
    options: dict[str, Any] = {"limit": limit, "pairs": pairs, "blimp": blimp, "seed": seed}
    options |= {"choices": _named(choices, "--choices", "FILE"), "skip": _named(skip, "--skip", "N")}
    return validate(
        Downstream, {key: value for key, value in options.items() if value is not None}, source="downstream"
    )


def _named(pairs: list[str] | None, option: str, what: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in pairs or []:
        name, sign, value = pair.partition("=")
        if not (name and sign and value):
            raise typer.BadParameter(f"{pair!r}; give NAME={what}.", param_hint=option)
        if name in values:
            raise typer.BadParameter(f"{name!r} is given twice. Give each test once.", param_hint=option)
        values[name] = value
    return values
