"""What the laboratory costs on a real model: tokens per second beside bare loops of transformers, in the same run.

    python benchmarks/lab.py FOLDER --text FILE [--steps 4] [--windows 32] [--rounds 3]
    python benchmarks/lab.py FOLDER --selection SELECTION

FOLDER is a model folder, such as one that examples/fetch_models.py makes; FILE is plain text. Each phase is timed in
rounds that alternate between the bare loop and the laboratory's function, in the number format that `dtype: auto` takes
on this machine; the last table times both formats, and says whether the rule takes the faster one.

With SELECTION, a folder of examples/wikitext_articles.py, a whole generation is timed once: one epoch, all text written
again in windows, KR-test and likelihood, with what the laboratory adds. Beside it stand bare loops over the very rows
and prompts that it trained on, continued and scored.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from tailkeep.lab import run
from tailkeep.lab.causal_lm import learner, measures, model
from tailkeep.lab.causal_lm.config import DTypes, Training
from tailkeep.lab.causal_lm.data_config import Greedy
from tailkeep.lab.causal_lm.generation import continue_prompts
from tailkeep.lab.causal_lm.model import Precision, count_parameters, resolve_precision
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer
from tailkeep.lab.causal_lm.training import train
from tailkeep.losses import CROSS_ENTROPY
from tailkeep.runs import RunDirectory
from tailkeep.scoring import token_log_probs
from tailkeep.scoring.loading import load_network, load_tokenizer

BLOCK, BATCH, CONTEXT, NEW = 128, 16, 96, 32


class Phases:
    """The three phases of a generation, bare and in the laboratory, over the same rows."""

    def __init__(self, folder: Path, text: str, *, steps: int, windows: int) -> None:
        self.network = load_network(folder)
        self.tokenizer = DocumentTokenizer(load_tokenizer(folder), append_eos=False)
        ids = self.tokenizer.encode(text)
        needed = max(steps * BATCH * BLOCK, windows * (CONTEXT + NEW)) + 1
        if len(ids) < needed:
            raise SystemExit(f"the text has {len(ids):,} tokens, {needed:,} are needed. Give a longer one.")
        self.rows = [ids[start : start + BLOCK + 1] for start in range(0, steps * BATCH * BLOCK, BLOCK)]
        self.prompts = [ids[start : start + CONTEXT] for start in range(0, windows * NEW, NEW)]
        self.steps, self.batch = steps, min(32, windows)

    def train_bare(self, precision: Precision) -> int:
        return train_rows(self.network, self.rows, precision)

    def train_lab(self, precision: Precision) -> int:
        facts = train(
            copy.deepcopy(self.network).train(),
            self.rows,
            training=Training(block=BLOCK, batch=BATCH, epochs=1, learning_rate=1e-4),
            weighting=CROSS_ENTROPY,
            budget=len(self.rows) * BLOCK,
            pad=self.tokenizer.pad,
            seed=0,
            device="cpu",
            bf16=precision.train,
        )
        return int(facts["train_units"])

    def write_bare(self, precision: Precision) -> int:
        return write_prompts(self.network, self.prompts, precision, batch=self.batch, pad=self.tokenizer.pad)

    def write_lab(self, precision: Precision) -> int:
        with precision.autocast("decode"):
            continue_prompts(
                self.network,
                self.tokenizer,
                self.prompts,
                decoder=Greedy(name="greedy"),
                new_tokens=NEW,
                stop_at_eos=False,
                batch=self.batch,
                seed=0,
            )
        return len(self.prompts) * NEW

    def score_bare(self, precision: Precision) -> int:
        return score_rows(self.network, self.rows, precision)

    def score_lab(self, precision: Precision) -> int:
        with precision.autocast("score"):
            token_log_probs(self.network, self.rows, pad=self.tokenizer.pad)
        return len(self.rows) * BLOCK


Rows = Sequence[np.ndarray[Any, Any]]


def train_rows(network: Any, rows: Rows, precision: Precision) -> int:
    network = copy.deepcopy(network).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.0)
    for batch in batches(rows, BATCH):
        with precision.autocast("train"):
            loss = network(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return tokens_of(rows)


@torch.inference_mode()
def write_prompts(network: Any, prompts: Rows, precision: Precision, *, batch: int, pad: int) -> int:
    lengths = sorted({len(prompt) for prompt in prompts})
    with precision.autocast("decode"):
        for ids in (ids for size in lengths for ids in batches([row for row in prompts if len(row) == size], batch)):
            network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW,
                min_new_tokens=NEW,
                do_sample=False,
                pad_token_id=pad,
            )
    return len(prompts) * NEW


@torch.inference_mode()
def score_rows(network: Any, rows: Rows, precision: Precision) -> int:
    with precision.autocast("score"):
        for ids in batches(rows, BATCH):
            logits = network(input_ids=ids, use_cache=False).logits[:, :-1].float()
            torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None])
    return tokens_of(rows)


def batches(rows: Rows, size: int) -> list[torch.Tensor]:
    """Rows of similar length together, shorter ones padded with 0, as a careful script would."""
    ordered = sorted(rows, key=len)
    groups = [ordered[first : first + size] for first in range(0, len(ordered), size)]
    return [
        torch.from_numpy(np.stack([np.pad(row, (0, len(group[-1]) - len(row))) for row in group]).astype(np.int64))
        for group in groups
    ]


def tokens_of(rows: Rows) -> int:
    return sum(len(row) - 1 for row in rows)


def time_generation(folder: Path, selection: Path, precision: Precision) -> None:
    """Print the seconds of generation 1 of a run by phase, and those of bare loops over the same rows and prompts."""
    work: dict[str, list[Any]] = {"train": [], "generate": [], "measure": []}

    def recorded(phase: str, function: Callable[..., Any], at: int) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if phase == "generate" and not work["generate"]:
                # Generation 1 begins with what generation 0 writes.
                for rows in work.values():
                    rows.clear()
            work[phase].extend(arguments[at])
            return function(*arguments, **options)

        return call

    tree = {
        "name": "benchmark",
        "seeds": [1],
        "learner": "causal_lm",
        "generations": 2,
        "regime": {"name": "replace"},
        "data": {"name": "text", "path": selection / "text.txt", "kr_test": selection / "questions.json"},
        "model": {"name": "pretrained", "path": folder},
        "tokenizer": {"append_eos": False, "start_before": "block"},
        "training": {"block": BLOCK, "batch": BATCH, "epochs": 1, "learning_rate": 1e-4},
        "generation": {"form": {"name": "windows", "context": CONTEXT, "new_tokens": NEW}, "batch": 32},
        "evaluation": {"samples": 8, "new_tokens": NEW},
        "num_threads": torch.get_num_threads(),
        "arms": {"baseline": {}},
    }
    with ExitStack() as stack:
        out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tailkeep-"))) / "run"
        for module, name, phase, at in (
            (learner, "train", "train", 1),
            (model, "continue_prompts", "generate", 2),
            (model, "token_log_probs", "measure", 1),
            (measures, "token_log_probs", "measure", 1),
        ):
            stack.enter_context(mock.patch.object(module, name, recorded(phase, getattr(module, name), at)))
        run(tree, out)
        seconds = RunDirectory.open(out).generation_dirs()[-1].timings()
    prompts = work["generate"]
    network = load_network(folder)
    loops: dict[str, Callable[[], int]] = {
        "train": lambda: train_rows(network, work["train"], precision),
        "generate": lambda: write_prompts(network.eval(), prompts, precision, batch=32, pad=0),
        "measure": lambda: score_rows(network.eval(), work["measure"], precision),
    }
    bare = {}
    for phase, loop in loops.items():
        start = time.perf_counter()
        loop()
        bare[phase] = time.perf_counter() - start
    print(f"\n{tokens_of(work['train']):,} tokens trained on, {len(prompts) * NEW:,} written, "
          f"{tokens_of(work['measure']):,} scored\n")  # fmt: skip
    print("| phase of a generation | bare loops, s | laboratory, s | ratio |\n|---|---|---|---|")
    for phase in seconds:
        theirs = bare.get(phase)
        shown = (
            f"{theirs:.0f} | {seconds[phase]:.0f} | {seconds[phase] / theirs:.2f}"
            if theirs
            else f"| {seconds[phase]:.0f} |"
        )
        print(f"| {phase} | {shown} |")
    ours, theirs = sum(seconds.values()), sum(bare.values())
    print(f"| all | {theirs:.0f} | {ours:.0f} | {ours / theirs:.2f} |")


def speed(work: Callable[[Precision], int], precision: Precision) -> float:
    start = time.perf_counter()
    tokens = work(precision)
    return tokens / (time.perf_counter() - start)


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text", type=Path, help="plain text to train on, to write on from, to score")
    parser.add_argument("--selection", type=Path, help="time a whole generation on this selection of WikiText")
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps of a round")
    parser.add_argument("--windows", type=int, default=32, help="windows that are written in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.text and not options.selection:
        parser.error("--text FILE or --selection FOLDER is needed")
    if options.selection:
        parameters = count_parameters(load_network(options.folder))
        precision = resolve_precision(DTypes(), device="cpu", num_parameters=parameters)
        time_generation(options.folder, options.selection, precision)
    if options.text:
        time_phases(options)


def time_phases(options: argparse.Namespace) -> None:
    """Print the tables of the three phases."""
    text = options.text.read_text(encoding="utf-8")
    phases = Phases(options.folder, text, steps=options.steps, windows=options.windows)
    parameters = count_parameters(phases.network)
    auto = resolve_precision(DTypes(), device="cpu", num_parameters=parameters)
    print(
        f"{options.folder.name}: {parameters / 1e6:.0f} M parameters, {options.threads} threads, dtype auto is {auto}\n"
    )
    print("| phase | bare loop, tokens/s | laboratory, tokens/s | ratio |\n|---|---|---|---|")
    works = {
        "train": (phases.train_bare, phases.train_lab),
        "decode": (phases.write_bare, phases.write_lab),
        "score": (phases.score_bare, phases.score_lab),
    }
    for name, (bare, lab) in works.items():
        pairs = [(speed(bare, auto), speed(lab, auto)) for _ in range(options.rounds)]
        bare_speeds, lab_speeds = map(list, zip(*pairs, strict=True))
        ratios = [ours / theirs for theirs, ours in pairs]
        print(f"| {name} | {spread(bare_speeds, '.0f')} | {spread(lab_speeds, '.0f')} | {spread(ratios, '.2f')} |")
    print("\n| phase | float32, tokens/s | bfloat16, tokens/s | the rule takes | which is |\n|---|---|---|---|---|")
    formats = Precision("cpu"), Precision("cpu", train=True, score=True, decode=True)
    for name, (_, lab) in works.items():
        slow, fast = ([speed(lab, choice) for _ in range(options.rounds)] for choice in formats)
        is_fast = getattr(auto, name)
        others, taken = (slow, fast) if is_fast else (fast, slow)
        verdict = (
            "faster"
            if min(taken) > max(others)
            else "slower"
            if max(taken) < min(others)
            else "as fast, within the spread"
        )
        form = "bfloat16" if is_fast else "float32"
        print(f"| {name} | {spread(slow, '.0f')} | {spread(fast, '.0f')} | {form} | {verdict} |")


if __name__ == "__main__":
    main()
