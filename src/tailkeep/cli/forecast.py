"""The command `tailkeep forecast`. Rule: every option is a key of `ForecastConfig` or an argument of `forecast.run`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailkeep.cli import corpus_options as shared
from tailkeep.runs import RunDirectory
from tailkeep.runs.progress import show_progress
from tailkeep.sanitize import redact, visible

if TYPE_CHECKING:
    from tailkeep.forecast import ForecastConfig

ForecastKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as generations=20. Repeatable."),
]


def forecast(
    corpus: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="The real text: files, folders or globs. Repeatable.")
    ] = None,
    synthetic: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]GLOB", help="Text of a model that was trained on it; one name a decoder."),
    ] = None,
    lab_run: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="DIR", help="Instead: a laboratory run; its first rounds forecast its later ones."
        ),
    ] = None,
    out: shared.OutOption = None,
    generations: Annotated[int | None, typer.Option(min=1, help="How many generations ahead; 10 if not given.")] = None,
    keep: Annotated[float | None, typer.Option(help="The share of the tail that must stay; 0.5 if not given.")] = None,
    max_count: Annotated[
        int | None, typer.Option(help="The tail: words that occur at most so many times; 1 if not given.")
    ] = None,
    decoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]KIND",
            help="How the synthetic texts, or that called NAME, were decoded: sampled (any temperature), truncated "
            "(top-p, top-k, min-p) or deterministic (greedy, beam).",
        ),
    ] = None,
    max_n: Annotated[int | None, typer.Option(min=1, help="Also count n-grams of words, up to 3.")] = None,
    config: shared.ConfigFile = None,
    overrides: ForecastKeys = None,
    workers: shared.Workers = 1,
    executor: shared.ExecutorOption = shared.ExecutorName.LOCAL,
    task_index: shared.TaskIndex = None,
    num_tasks: shared.NumTasks = None,
    memory_mb: Annotated[int | None, typer.Option(min=16, help="Memory for counts per worker, in MB.")] = None,
    text_field: shared.TextField = None,
    id_field: shared.IdField = None,
    document_separator: shared.DocumentSeparator = None,
    max_document_bytes: shared.MaxDocumentBytes = None,
    file_format: shared.FileFormat = None,
    ignore: shared.Ignore = None,
    on_error: shared.OnErrorOption = None,
    verify: shared.Verify = False,
    dump_config: shared.DumpConfig = False,
) -> None:
    """Forecast what of a corpus' rare words is left after generations of training on synthetic text."""
    from tailkeep import forecast as forecasts

    options = {
        "layout": shared.layout_options(
            text_field, id_field, document_separator, max_document_bytes, file_format, ignore
        ),
        "generations": generations,
        "tail": {"keep": keep, "max_count": max_count},
        **_decoder_keys(decoder or []),
        "max_n": max_n,
        "on_error": on_error,
        "memory_mb": memory_mb,
    }
    forecast_config = forecasts.load(config, overrides=overrides or [], options=shared.given_options(options))
    if dump_config:
        print(forecasts.dump(forecast_config), end="")
        return
    if lab_run is not None:
        if corpus or synthetic:
            raise typer.BadParameter(
                "a laboratory run brings its texts; omit --corpus, --synthetic.", param_hint="--run"
            )
        idle = {
            "--verify": verify,
            "--workers": workers != 1,
            "--executor": executor is not shared.ExecutorName.LOCAL,
            "--task-index": task_index is not None,
            "--num-tasks": num_tasks is not None,
        }
        if option := next((name for name, is_set in idle.items() if is_set), ""):
            raise typer.BadParameter("it has no effect with --run, which reads no corpus. Omit it.", param_hint=option)
        _forecast_chains(lab_run, out, forecast_config)
        return
    paths = shared.require_option(corpus, "--corpus", "give the real text, such as --corpus 'human/*.jsonl', or --run.")
    out = shared.require_option(out, "--out", "give the output folder, such as --out forecast.")
    execution = shared.execution_arguments(
        workers, executor, task_index, num_tasks, cpus=forecast_config.num_threads, gpus=0
    )
    with show_progress() as observe:
        outcome = forecasts.run(
            forecast_config, paths, out, synthetic=synthetic or [], verify=verify, **execution, observe=observe
        )
    shared.print_outcome(outcome, out)


def _decoder_keys(options: list[str]) -> dict[str, object]:
    """`sampled` as the key `decoder`, `NAME=sampled` as one of `decoders`."""
    pairs = [option.rpartition("=")[::2] for option in options]
    names = [name for name, _ in pairs]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise typer.BadParameter(f"{repeated!r} is given twice.", param_hint="--decoder")
    if names.count("") > 1:
        raise typer.BadParameter("the kind for all texts is given twice.", param_hint="--decoder")
    kinds = dict(pairs)
    return {"decoder": kinds.pop("", None), "decoders": kinds}


def _forecast_chains(lab_run: Path, out: str | None, config: "ForecastConfig") -> None:
    from tailkeep import forecast as forecasts
    from tailkeep.lab.chains import read_chains

    folder = shared.require_option(out, "--out", "give the output folder, such as --out forecast.")
    forecasts.check_chain_config(config)
    chains, others = read_chains(lab_run)
    counted, skipped = [], [chain.line for chain in others]
    for chain in chains:
        name = f"{chain.arm}, seed {chain.seed}"
        kinds = forecasts.count_chain(
            chain.texts,
            chain.labels,
            run=chain.run,
            chain=name,
            regime=chain.regime,
            real_share=chain.real_share,
            decoder=chain.decoder,
        )
        counted += kinds
        skipped += [] if kinds else [f"{name} (regime {chain.regime}, which has no theory)"]
    fingerprint = RunDirectory.open(lab_run).record.fingerprint
    for line in forecasts.run_chains(config, counted, Path(folder), source=fingerprint, skipped=skipped):
        print(visible(line))
    print(visible(f"output: {redact(folder)}"))
