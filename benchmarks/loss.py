"""What the loss costs: time and memory of fused truncated cross-entropy beside every cross-entropy that others offer.

    python benchmarks/loss.py [--vocab 32768 131072] [--tokens 1024] [--width 512] [--device cuda --dtype bfloat16]
    python benchmarks/loss.py --step        a whole training step of a Llama instead of the output layer alone
    python benchmarks/loss.py --model FOLDER [--text FILE] [--thresholds 1 0.99]    that of a real model on real text

Same tensors, same process, contenders in turn once a round. Time is relative to the fastest exact rival of the same
round, median and range; memory, measured in a fresh process each, to the leanest exact rival.
"""

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from loss_cost.measuring import Contender, own_process, peak_bytes, ratio, seconds_per_round
from loss_cost.rivals import NotHereError

MIB = 2**20
TEXT = Path(__file__).parents[1] / "examples" / "moby_dick.txt"


def parsed() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--tokens", type=int, default=1024)
    arguments.add_argument("--width", type=int, default=512)
    arguments.add_argument("--vocab", type=int, nargs="+", default=[32768, 131072])
    arguments.add_argument(
        "--kept-fractions", type=float, nargs="+", default=[1, 0.75, 0.5, 0.25, 0.1], help="kept fractions to time"
    )
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    arguments.add_argument("--impl", default="auto", help="tailkeep's engine")
    arguments.add_argument(
        "--only", nargs="+", default=[""], help="only contenders whose name begins with one of these"
    )
    arguments.add_argument("--out", help="also write the table to this CSV file")
    arguments.add_argument("--step", action="store_true", help="a whole training step")
    arguments.add_argument("--layers", type=int, default=8, help="of the model of --step")
    arguments.add_argument("--model", help="folder of a causal language model: a whole training step of it")
    arguments.add_argument("--text", default=str(TEXT), help="real text for --model, Moby-Dick by default")
    arguments.add_argument("--thresholds", type=float, nargs="+", default=[1, 0.99], help="of the losses of --model")
    arguments.add_argument("--block", type=int, default=256, help="tokens in a row of --model")
    arguments.add_argument("--peak-of", help=argparse.SUPPRESS)  # the fresh process: one contender's memory
    options = arguments.parse_args()
    if options.model is not None:
        options.vocab = [vocabulary(arguments, options.model)]
    if options.device == "cuda" and not torch.cuda.is_available():
        arguments.error("--device cuda, but PyTorch finds no GPU. Leave it out to measure on the CPU.")
    return options


def vocabulary(arguments: argparse.ArgumentParser, folder: str) -> int:
    """Words of the model in `folder`, by its config."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        arguments.error(f"--model {folder} has no readable config.json ({error}). Pass a folder of transformers.")
    return int(config.get("text_config", config)["vocab_size"])


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    mode: Any
    if options.model is not None:
        from loss_cost import real_model as mode
    elif options.step:
        from loss_cost import training_step as mode  # imports transformers
    else:
        from loss_cost import output_layer as mode
    contenders = [one for one in mode.contenders(options) if one.name.startswith(tuple(options.only))]
    if options.peak_of is not None:
        (contender,) = [one for one in contenders if one.name == options.peak_of]
        for vocab in options.vocab:
            print(vocab, peak_bytes(contender.call(mode.prepare(options, vocab)), options.device), flush=True)
        return
    sys.stdout.reconfigure(line_buffering=True)
    peaks = measured_peaks(contenders, options.vocab)
    rows: list[dict[str, Any]] = []
    for vocab in options.vocab:
        able = [one for one in contenders if (one.name, vocab) in peaks]
        scene = mode.prepare(options, vocab)
        width = "" if options.model is not None else f"width {options.width}, "
        print(
            f"\nvocabulary {vocab}, {options.tokens} tokens, {width}{options.dtype}, {options.device}, "
            f"{options.threads} threads, {options.rounds} rounds, torch {torch.__version__}"
        )
        print(*scene.notes(options), sep="\n")
        table = compared(able, scene, {one.name: peaks[one.name, vocab] for one in able}, options)
        show(table)
        constants = {key: getattr(options, key) for key in ("device", "dtype", "threads", "tokens", "width", "rounds")}
        kind = options.model or ("step" if options.step else "loss")
        rows += [{"mode": kind, "vocab": vocab, **constants, **row} for row in table]
        if options.out:
            write_rows(rows, options.out)


def write_rows(rows: list[dict[str, Any]], out: str) -> None:
    """All rows so far, so that a long run that is stopped leaves what it measured."""
    with open(out, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def measured_peaks(contenders: Iterable[Contender], vocabularies: list[int]) -> dict[tuple[str, int], int | None]:
    """Bytes by name and vocabulary. A rival that is missing or fails is named and has none; ours must not fail."""
    peaks: dict[tuple[str, int], int | None] = {}
    for one in contenders:
        print(f"peak memory of {one.name} ...", file=sys.stderr)
        try:
            if one.check is not None:
                one.check()
        except (NotHereError, ImportError) as reason:
            print(f"skipped: {one.name}: {reason}")
            continue
        lines, failure = own_process("--peak-of", one.name)
        for vocab, peak in map(str.split, lines):
            peaks[one.name, int(vocab)] = None if peak == "None" else int(peak)
        if failure is not None:
            said = f"failed: {one.name} from vocabulary {vocabularies[len(lines)]} on: {failure}"
            if not one.rival:
                sys.exit(said)
            print(said)
    return peaks


def compared(
    contenders: list[Contender], scene: Any, peaks: dict[str, int | None], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row a contender."""
    calls = {one.name: one.call(scene) for one in contenders}
    for call in calls.values():  # what only the first call pays, such as compilation
        call()
    errors = {one.name: None if one.error is None else one.error(scene) for one in contenders}
    seconds = seconds_per_round(calls, rounds=options.rounds, device=options.device)
    typical = {name: statistics.median(values) for name, values in seconds.items()}
    bases = [one.name for one in contenders if one.rival and one.exact]
    if not bases:
        sys.exit("No exact rival is left to compare with. Name one with --only, such as eager.")
    fastest = min(bases, key=lambda name: min(seconds[name]))  # the best round, which no other process disturbed
    leanest = min(bases, key=lambda name: peaks[name] or 0)
    rows = []
    for one in contenders:
        time, peak, base = ratio(seconds[one.name], seconds[fastest]), peaks[one.name], peaks[leanest]
        rows.append(
            {
                "contender": one.name,
                "exact": one.exact,
                "gradient_error": errors[one.name],
                "milliseconds": 1e3 * typical[one.name],
                "time": time.median,
                "time_low": time.low,
                "time_high": time.high,
                "ideal": one.ideal,
                "over_ideal": None if one.ideal is None else time.median / one.ideal - 1,
                "peak_mib": None if peak is None else peak / MIB,
                "memory": peak / base if peak and base else None,
                "fastest": fastest,
                "leanest": leanest,
            }
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """The table for people, with what is no fused loss of ours set apart by a line."""
    print(f"time 1 is {rows[0]['fastest']}, memory 1 is {rows[0]['leanest']}")
    print(
        f"{'':36} {'exact':>5} {'grad. error':>11} {'ms':>9} {'time':>6} {'range':>13} {'ideal':>6} {'over':>6} "
        f"{'peak MiB':>9} {'memory':>6}"
    )
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and _group(before) != _group(row):
            print("-" * 36)
        span = f"{row['time_low']:.2f}-{row['time_high']:.2f}"
        print(
            f"{row['contender']:36} {'yes' if row['exact'] else 'no':>5} {_text(row['gradient_error'], '.1e'):>11} "
            f"{row['milliseconds']:9.1f} {row['time']:6.2f} {span:>13} {_text(row['ideal'], '.2f'):>6} "
            f"{_text(row['over_ideal'], '+.0%'):>6} {_text(row['peak_mib'], '.1f'):>9} {_text(row['memory'], '.2f'):>6}"
        )


def _group(row: dict[str, Any]) -> str:
    name = row["contender"]
    return name.split(",")[0] if name.startswith("tailkeep") else "rivals"


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


if __name__ == "__main__":
    main()
