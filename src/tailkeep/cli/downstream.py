"""`tailkeep downstream`: tests by likelihood of any model, here and for lm-evaluation-harness."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailkeep.visible import visible

if TYPE_CHECKING:
    from tailkeep.lab.causal_lm.downstream import Tests

app = typer.Typer(
    name="downstream", help="Tests by likelihood: multiple choice, sums, minimal pairs.", no_args_is_help=True
)

Choices = Annotated[
    list[str] | None,
    typer.Option("--choices", metavar="NAME=FILE", help="A .jsonl file of multiple choice or sums. Repeatable."),
]
Blimp = Annotated[Path | None, typer.Option(metavar="PATH", help="BLiMP: a folder or zip of minimal pairs.")]
Limit = Annotated[int, typer.Option(min=1, help="Items of each file, drawn.")]
Pairs = Annotated[int, typer.Option(min=1, help="Pairs of each paradigm, drawn.")]
Skip = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=N", help="First items of a file that are not asked. Repeatable."),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the draw.")]


@app.command()
def run(
    model: Annotated[Path, typer.Option(metavar="PATH", help="A causal language model: a folder or hub id.")],
    choices: Choices = None,
    blimp: Blimp = None,
    limit: Limit = 200,
    pairs: Pairs = 10,
    skip: Skip = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write all figures as JSON.")] = None,
) -> None:
    """Ask a model: which of several texts does it find likeliest?"""
    from tailkeep.lab.causal_lm.downstream import examine
    from tailkeep.runs import Storage

    tests = _tests(choices, blimp, limit, pairs, skip, seed)
    found = examine(model, tests)
    for name in tests:
        share, low, high, chance, items, cut = (
            found[f"downstream.{name}{end}"] for end in ("", ".low", ".high", ".chance", ".items", ".cut")
        )
        beyond = f", {cut:.1%} of the queries cut to fit" if cut else ""
        print(f"{name:16} {share:.3f} ({low:.3f} to {high:.3f}) of {items:,.0f}, chance {chance:.3g}{beyond}")
    if out is not None:
        Storage().write_text(out, json.dumps({"model": str(model), **found}) + "\n")


@app.command()
def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder, to stay where it is.")],
    choices: Choices = None,
    blimp: Blimp = None,
    limit: Limit = 200,
    pairs: Pairs = 10,
    skip: Skip = None,
    seed: Seed = 0,
) -> None:
    """Write the same tests as tasks for lm-evaluation-harness that run offline."""
    from tailkeep.data import write_tasks

    for path in write_tasks(_tests(choices, blimp, limit, pairs, skip, seed), out):
        print(visible(str(path)))


def _tests(
    choices: list[str] | None, blimp: Path | None, limit: int, pairs: int, skip: list[str] | None, seed: int
) -> "Tests":
    from tailkeep.config import validate
    from tailkeep.lab.causal_lm.corpora import Downstream
    from tailkeep.lab.causal_lm.downstream import read_tests

    given: dict[str, Any] = {"limit": limit, "pairs": pairs, "seed": seed, "blimp": blimp}
    given |= {"choices": _named(choices, "--choices"), "skip": _named(skip, "--skip")}
    return read_tests(validate(Downstream, given, source="downstream"))


def _named(pairs: list[str] | None, option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs or []:
        name, sign, value = pair.partition("=")
        if not (name and sign and value):
            raise typer.BadParameter(f"{pair!r}; give a name, '=' and a value.", param_hint=option)
        if name in found:
            raise typer.BadParameter(f"{name!r} is given twice. Give each test once.", param_hint=option)
        found[name] = value
    return found
