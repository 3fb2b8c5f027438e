"""`tailkeep kr-test`: knowledge-retention questions of a corpus, built, checked, run and exported."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailkeep.cli.corpus_options import (
    DocumentSeparator,
    FileFormat,
    Ignore,
    OnErrorOption,
    given_options,
    layout_options,
)
from tailkeep.cli.output import FiguresFile
from tailkeep.errors import ConfigError, ExitCode
from tailkeep.runs.progress import print_status
from tailkeep.sanitize import redact, visible, without_nan

if TYPE_CHECKING:
    from tailkeep.data.corpus import Layout
    from tailkeep.data.documents import RejectsFile
    from tailkeep.kr_test.build import BuiltTest

app = typer.Typer(name="kr-test", help="Questions that only a reader of a corpus can answer.", no_args_is_help=True)

Questions = Annotated[Path, typer.Option(metavar="FILE", help="A question file, .json or .jsonl.")]


@app.command()
def build(
    inputs: Annotated[list[str], typer.Option("--input", metavar="GLOB", help="Files, folders or globs. Repeatable.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The question file, .json or .jsonl.")],
    questions: Annotated[int, typer.Option(min=2, help="How many at most.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample of documents and pairs.")] = 0,
    sentences: Annotated[
        int | None, typer.Option(min=1, help="Sentences of context at most; 1 if not given. Not with --endpoint.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pair only sentences with as many tokens of this tokenizer.")
    ] = None,
    reference_model: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Keep only pairs of which this causal LM, too, answers one question of two."),
    ] = None,
    text_field: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="The field with the text, such as text or a.b. Repeatable.")
    ] = None,
    document_separator: DocumentSeparator = None,
    file_format: FileFormat = None,
    ignore: Ignore = None,
    on_error: OnErrorOption = None,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Let the model behind this OpenAI-compatible URL write them."),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Which of its models.")] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The environment variable with the key; OPENAI_API_KEY if not given."),
    ] = None,
    price: Annotated[
        str | None, typer.Option(metavar="IN,OUT", help="Prices per million tokens, to estimate the cost.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send without confirmation.")] = False,
) -> None:
    """Build questions from a corpus: by swapping entities within it, or through a chat endpoint."""
    from tailkeep.data import write_questions
    from tailkeep.data.corpus import find_shards, ignored_lines
    from tailkeep.data.documents import open_rejects
    from tailkeep.kr_test.lint import find_shortcuts, shortcut_lines

    layout = _layout(text_field, document_separator, file_format, ignore)
    if on_error not in (None, "stop", "skip"):
        raise typer.BadParameter(f"{on_error!r}; give stop or skip.", param_hint="--on-error")
    if endpoint is None:
        for name, value in (("--model", model), ("--api-key-env", api_key_env), ("--price", price), ("--yes", yes)):
            if value:
                raise typer.BadParameter("it does nothing without --endpoint. Leave it out.", param_hint=name)
    else:
        for name, option in (
            ("--sentences", sentences),
            ("--tokenizer", tokenizer),
            ("--reference-model", reference_model),
        ):
            if option is not None:
                raise typer.BadParameter("it does nothing beside --endpoint. Leave it out.", param_hint=name)
        if model is None:
            raise typer.BadParameter("give the name of a model of the endpoint.", param_hint="--model")
    corpus = CorpusSample(inputs, layout, questions, seed)
    with open_rejects(out.with_name(f"{out.name}.rejects.jsonl")) as rejects:
        reject = rejects if on_error == "skip" else None
        if endpoint is None:
            built = _cloze(corpus, sentences or 1, (tokenizer, reference_model), reject)
        else:
            variable = "OPENAI_API_KEY" if api_key_env is None else api_key_env
            built = _by_llm(corpus, out, (endpoint, model or "", variable), _prices(price), reject, yes=yes)
    write_questions(out, built.questions)
    print(visible("".join(f"{line}\n" for line in ignored_lines(find_shards(inputs, layout).ignored))), end="")
    for name, count in sorted(built.counts.items()):
        print(f"{name}: {count:,}")
    print("\n".join(shortcut_lines(find_shortcuts(built.questions))))
    print(visible(f"questions: {len(built.questions):,} in {out}"), flush=True)
    if rejects.count:
        first = visible(redact(rejects.first), newline=" ")
        for place in rejects.torn:
            print_status(visible(f"warning: {redact(place)} is torn: everything after it is lost. Copy the file again"))
        print_status(f"rejected: {rejects.count:,} documents, see {rejects.path}. The first is {first}.")
        raise typer.Exit(ExitCode.DONE_WITH_REJECTS)


@app.command()
def check(file: Annotated[Path, typer.Argument(metavar="FILE", help="A question file, .json or .jsonl.")]) -> None:
    """Look for faults of a question file: repeats, leaks, and shortcuts that need no knowledge."""
    from tailkeep.kr_test import lint

    print(visible("\n".join(lint.check(file).lines())))


@app.command()
def run(
    model: Annotated[Path, typer.Option(metavar="PATH", help="A causal LM: a folder, hub id or GGUF file.")],
    questions: Questions,
    out: FiguresFile = None,
    reference: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="Another model, compared by McNemar's test. Repeatable.")
    ] = None,
    num_parts: Annotated[
        int | None, typer.Option(min=2, help="Also report this many equal consecutive parts of the corpus.")
    ] = None,
    num_documents: Annotated[
        int | None, typer.Option(min=1, help="Number of documents (lines) of the corpus, for --num-parts.")
    ] = None,
    text_form: Annotated[
        str, typer.Option(metavar="plain|wikitext", help="Put questions into this form first; shown against plain.")
    ] = "plain",
) -> None:
    """Evaluate a model: does it assign the true sentence a higher likelihood than the false one?"""
    from tailkeep.data import FORMS, articles_of, read_questions
    from tailkeep.kr_test import evaluate
    from tailkeep.kr_test.evaluate import KRModel
    from tailkeep.metrics import kr_rows
    from tailkeep.runs import Storage

    form = next((name for name in FORMS if name == text_form), None)
    if form is None:
        raise typer.BadParameter(f"{text_form!r}; give one of {', '.join(FORMS)}.", param_hint="--text-form")
    if num_documents is not None and num_parts is None:
        raise typer.BadParameter("it does nothing without --num-parts. Leave it out.", param_hint="--num-documents")
    items = read_questions(questions)
    parts = None if num_parts is None else evaluate.parts_of(items, num_parts, total=num_documents)
    kr_model = KRModel.load(model)
    margins = kr_model.answer(items, form=form)
    rows = kr_rows(margins, parts, articles_of(items))
    print("\n".join(evaluate.row_lines(rows)))
    if parts is not None:
        print(f"in no part, since their source straddles two: {int((parts < 0).sum())}")
    print(f"sentence pairs of unequal token counts: {margins.uneven} of {len(items)}")
    if margins.beyond_window:
        print(f"longer than the context window, scored without the beginning: {margins.beyond_window}")
    comparisons = []
    if form != "plain":
        comparisons.append(evaluate.compare(margins.common, kr_model.answer(items).common, reference="the plain form"))
    for path in reference or []:
        reference_margins = KRModel.load(path).answer(items, form=form)
        comparison = evaluate.compare(margins.common, reference_margins.common, reference=str(path))
        comparisons.append(comparison)
    for item in comparisons:
        discordant = f"discordant pairs {item.test.only_first} and {item.test.only_second}"
        print(
            visible(f"reference {item.reference}: {item.accuracy:.3f}; {discordant}, McNemar p {item.test.p_value:.2g}")
        )
    if out is not None:
        tree = without_nan(evaluate.tree_of(rows, margins, comparisons))
        Storage().write_text(out, json.dumps({"model": str(model), "form": form, **tree}) + "\n")


@app.command()
def export(
    questions: Questions,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder, to stay where it is.")],
    name: Annotated[str, typer.Option(help="The task's name.")] = "kr_test",
) -> None:
    """Write a task for lm-evaluation-harness that runs offline."""
    from tailkeep.data import read_questions
    from tailkeep.kr_test import build as kr_build

    print(visible(str(kr_build.export(read_questions(questions), out, name=name))))


def _layout(
    text_field: list[str] | None, document_separator: str | None, file_format: str | None, ignore: list[str] | None
) -> "Layout":
    from tailkeep.config import validate
    from tailkeep.data.corpus import Layout

    options = layout_options(text_field, None, document_separator, None, file_format, ignore)
    return validate(Layout, given_options(options), source="layout")


@dataclass(frozen=True)
class CorpusSample:
    """What questions are about, and how many are drawn from it."""

    inputs: list[str]
    layout: "Layout"
    num_questions: int
    seed: int


def _cloze(
    corpus: CorpusSample, sentences: int, models: tuple[Path | None, Path | None], reject: "RejectsFile | None"
) -> "BuiltTest":
    from tailkeep.kr_test.build import build_cloze

    tokenizer, reference_model = models
    length = reference = None
    if tokenizer is not None:
        from tailkeep.kr_test.evaluate import token_counter

        length = token_counter(tokenizer)
    if reference_model is not None:
        from tailkeep.kr_test.evaluate import KRModel

        reference = KRModel.load(reference_model).pair_margins
    return build_cloze(
        corpus.inputs,
        corpus.layout,
        num_questions=corpus.num_questions,
        seed=corpus.seed,
        sentences=sentences,
        length=length,
        reference=reference,
        reject=reject,
    )


def _by_llm(
    corpus: CorpusSample,
    out: Path,
    endpoint_model_key: tuple[str, str, str],
    prices: tuple[float, float] | None,
    reject: "RejectsFile | None",
    *,
    yes: bool,
) -> "BuiltTest":
    from tailkeep.kr_test.build import build_by_llm, find_passages, unanswered
    from tailkeep.kr_test.endpoint import Endpoint, key_in
    from tailkeep.kr_test.llm_writer import estimate, open_answers

    url, model, variable = endpoint_model_key
    endpoint = Endpoint(url, model, key_in(variable))
    num_questions = corpus.num_questions
    passages = find_passages(corpus.inputs, corpus.layout, num_questions=num_questions, seed=corpus.seed, reject=reject)
    with open_answers(out) as answers:
        missing = unanswered(passages, model, answers)
        if missing:
            sent = estimate(missing)
            cost = "no price is given" if prices is None else f"about {sent.cost(*prices):.4g} at the prices given"
            print_status(
                visible(
                    f"to {endpoint.host}, model {model}: {sent.passages:,} requests, {sent.characters:,} characters, "
                    f"about {sent.prompt_tokens:,} tokens there and {sent.completion_tokens:,} back; {cost}. "
                    f"{len(passages) - len(missing):,} answers are already on disk."
                )
            )
            if not url.startswith("https://"):
                print_status("the connection is not encrypted.")
            if not yes and not typer.confirm("Send them?", err=True):
                raise ConfigError("nothing was sent. Give --yes, or answer y.")
        return build_by_llm(passages, endpoint, answers, num_questions=num_questions)


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
