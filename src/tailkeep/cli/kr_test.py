"""`tailkeep kr-test`: knowledge-retention questions of a corpus, built, checked, run and exported."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailkeep.cli.output import FiguresFile, tell
from tailkeep.errors import ConfigError
from tailkeep.sanitize import visible

if TYPE_CHECKING:
    from tailkeep.data.corpus import Layout
    from tailkeep.kr_test.build import Built

app = typer.Typer(name="kr-test", help="Questions that only a reader of a corpus can answer.", no_args_is_help=True)

Questions = Annotated[Path, typer.Option(metavar="FILE", help="A question file, .json or .jsonl.")]


@app.command()
def build(
    inputs: Annotated[list[str], typer.Option("--input", metavar="GLOB", help="Files, folders or globs. Repeatable.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The question file, .json or .jsonl.")],
    questions: Annotated[int, typer.Option(min=2, help="How many at most.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of documents and pairs.")] = 0,
    sentences: Annotated[
        int | None, typer.Option(min=1, help="Sentences of context at most; 1 if not given. Not with --endpoint.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pair only sentences with as many tokens of this tokenizer.")
    ] = None,
    text_field: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="The field with the text, such as text or a.b. Repeatable.")
    ] = None,
    document: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="A document of plain text: line, file, blank-line or up to a separator."),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Let the model behind this OpenAI-compatible address write them.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Which of its models.")] = None,
    key_variable: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The environment variable with the key; OPENAI_API_KEY if not given."),
    ] = None,
    price: Annotated[
        str | None, typer.Option(metavar="IN,OUT", help="Prices of a million tokens, to reckon the cost.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking.")] = False,
) -> None:
    """Make questions of a corpus: by swapping entities within it, or through a chat endpoint."""
    from tailkeep.data import write_questions
    from tailkeep.kr_test.lint import find_shortcuts, shortcut_lines

    layout = _layout(text_field, document)
    if endpoint is None:
        for name, value in (("--model", model), ("--key-variable", key_variable), ("--price", price), ("--yes", yes)):
            if value:
                raise typer.BadParameter("it does nothing without --endpoint. Leave it out.", param_hint=name)
        built = _cloze(inputs, layout, questions, seed, sentences or 1, tokenizer)
    else:
        for name, given in (("--sentences", sentences), ("--tokenizer", tokenizer)):
            if given is not None:
                raise typer.BadParameter("it does nothing beside --endpoint. Leave it out.", param_hint=name)
        if model is None:
            raise typer.BadParameter("give the name of a model of the endpoint.", param_hint="--model")
        variable = "OPENAI_API_KEY" if key_variable is None else key_variable
        built = _asked(inputs, layout, questions, seed, out, (endpoint, model, variable), _prices(price), yes=yes)
    write_questions(out, built.questions)
    for name, count in sorted(built.counts.items()):
        print(f"{name}: {count:,}")
    print("\n".join(shortcut_lines(find_shortcuts(built.questions))))
    print(visible(f"questions: {len(built.questions):,} in {out}"))


@app.command()
def check(file: Annotated[Path, typer.Argument(metavar="FILE", help="A question file, .json or .jsonl.")]) -> None:
    """Look for faults of a question file: repeats, leaks, and shortcuts that need no knowledge."""
    from tailkeep.kr_test import lint as checking

    print(visible("\n".join(checking.check(file).lines())))


@app.command()
def run(
    model: Annotated[Path, typer.Option(metavar="PATH", help="A causal language model: a folder or hub id.")],
    questions: Questions,
    out: FiguresFile = None,
    against: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="Another model, compared by McNemar's test. Repeatable.")
    ] = None,
    fractions: Annotated[
        int | None, typer.Option(min=2, help="Also by so many equal consecutive parts of the corpus.")
    ] = None,
    lines: Annotated[int | None, typer.Option(min=1, help="Lines (documents) of the corpus, for --fractions.")] = None,
    text_form: Annotated[
        str, typer.Option(metavar="plain|wikitext", help="Put questions into this form first; shown against plain.")
    ] = "plain",
) -> None:
    """Ask a model: does it find the true sentence likelier than the false one?"""
    from tailkeep.data import FORMS, read_questions
    from tailkeep.kr_test import evaluate as results
    from tailkeep.kr_test.evaluate import KRModel
    from tailkeep.metrics import kr_rows
    from tailkeep.runs import Storage

    form = next((name for name in FORMS if name == text_form), None)
    if form is None:
        raise typer.BadParameter(f"{text_form!r}; give one of {', '.join(FORMS)}.", param_hint="--text-form")
    if lines is not None and fractions is None:
        raise typer.BadParameter("it does nothing without --fractions. Leave it out.", param_hint="--lines")
    asked = read_questions(questions)
    parts = None if fractions is None else results.parts_of(asked, fractions, total=lines)
    examinee = KRModel.load(model)
    margins = examinee.answer(asked, form=form)
    rows = kr_rows(margins, parts)
    print("\n".join(results.row_lines(rows)))
    if parts is not None:
        print(f"left out of the fractions, since their source straddles two: {int((parts < 0).sum())}")
    print(f"sentences of different lengths: {margins.uneven} of {len(asked)}")
    if margins.beyond_window:
        print(f"longer than the model reads at once, scored without the start: {margins.beyond_window}")
    comparisons = []
    if form != "plain":
        comparisons.append(results.compare(margins.common, examinee.answer(asked).common, against="the plain form"))
    for other in against or []:
        theirs = KRModel.load(other).answer(asked, form=form)
        comparisons.append(results.compare(margins.common, theirs.common, against=str(other)))
    for item in comparisons:
        only = f"only here right {item.test.only_first}, only there {item.test.only_second}"
        print(visible(f"against {item.against}: {item.accuracy:.3f}; {only}, McNemar p {item.test.p_value:.2g}"))
    if out is not None:
        tree = results.tree_of(rows, margins, comparisons)
        Storage().write_text(out, json.dumps({"model": str(model), "form": form, **tree}) + "\n")


@app.command()
def export(
    questions: Questions,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder, to stay where it is.")],
    name: Annotated[str, typer.Option(help="The task's name.")] = "kr_test",
) -> None:
    """Write a task for lm-evaluation-harness that runs offline."""
    from tailkeep.data import read_questions
    from tailkeep.kr_test import build as exporting

    print(visible(str(exporting.export(read_questions(questions), out, name=name))))


def _layout(text_field: list[str] | None, document: str | None) -> "Layout":
    from tailkeep.config import validate
    from tailkeep.data.corpus import Layout

    given: dict[str, Any] = {"text_fields": text_field, "document": document}
    return validate(Layout, {key: value for key, value in given.items() if value}, source="layout")


def _cloze(
    inputs: list[str], layout: "Layout", wanted: int, seed: int, sentences: int, tokenizer: Path | None
) -> "Built":
    from tailkeep.kr_test.build import build_cloze

    length = None
    if tokenizer is not None:
        from tailkeep.kr_test.evaluate import token_counter

        length = token_counter(tokenizer)
    return build_cloze(inputs, layout, wanted=wanted, seed=seed, sentences=sentences, length=length)


def _asked(
    inputs: list[str],
    layout: "Layout",
    wanted: int,
    seed: int,
    out: Path,
    chosen: tuple[str, str, str],
    prices: tuple[float, float] | None,
    *,
    yes: bool,
) -> "Built":
    from tailkeep.kr_test.build import build_asked, find_passages, unanswered
    from tailkeep.kr_test.llm_writer import Endpoint, estimate, key_in, open_answers

    url, model, variable = chosen
    endpoint = Endpoint(url, model, key_in(variable))
    passages = find_passages(inputs, layout, wanted=wanted, seed=seed)
    with open_answers(out) as answers:
        left = unanswered(passages, model, answers)
        if left:
            sent = estimate(left)
            cost = "no price is given" if prices is None else f"about {sent.cost(*prices):.4g} at the prices given"
            tell(
                visible(
                    f"to {endpoint.host}, model {model}: {sent.passages:,} requests, {sent.characters:,} characters, "
                    f"about {sent.prompt_tokens:,} tokens there and {sent.completion_tokens:,} back; {cost}. "
                    f"{len(passages) - len(left):,} answers are here already."
                )
            )
            if not url.startswith("https://"):
                tell("the connection is not encrypted.")
            if not yes and not typer.confirm("Send them?", err=True):
                raise ConfigError("nothing was sent. Give --yes, or answer y.")
        return build_asked(passages, endpoint, answers)


def _prices(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        first, second = map(float, text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}; give two numbers, such as 0.15,0.60.", param_hint="--price") from None
    if not (0 <= first < float("inf") and 0 <= second < float("inf")):
        raise typer.BadParameter(f"{text!r}; give prices from 0 upward.", param_hint="--price")
    return first, second
