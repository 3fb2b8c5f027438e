"""What the laboratory costs on a real model: tokens per second beside bare loops of transformers, in the same run.

    python benchmarks/lab.py FOLDER --text FILE

FOLDER is a model folder, such as one that examples/fetch_models.py makes; FILE is plain text. Each phase is timed in
rounds that alternate between the bare loop and the laboratory's function, in the number format that `dtype: auto` takes
on this machine; the last table times both formats, to see whether the rule takes the faster one.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tailkeep.lab.causal_lm.config import DTypes, Training
from tailkeep.lab.causal_lm.data_config import Greedy
from tailkeep.lab.causal_lm.generation import continue_prompts
from tailkeep.lab.causal_lm.model import Precision, count_parameters, resolve_precision
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer
from tailkeep.lab.causal_lm.training import train
from tailkeep.losses import CROSS_ENTROPY
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
        network = copy.deepcopy(self.network).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.0)
        for first in range(0, len(self.rows), BATCH):
            ids = torch.from_numpy(np.stack(self.rows[first : first + BATCH]).astype(np.int64))
            with precision.autocast("train"):
                loss = network(input_ids=ids, labels=ids).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return len(self.rows) * BLOCK

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

    @torch.inference_mode()
    def write_bare(self, precision: Precision) -> int:
        with precision.autocast("decode"):
            for first in range(0, len(self.prompts), self.batch):
                ids = torch.from_numpy(np.stack(self.prompts[first : first + self.batch]).astype(np.int64))
                self.network.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=NEW,
                    min_new_tokens=NEW,
                    do_sample=False,
                    pad_token_id=self.tokenizer.pad,
                )
        return len(self.prompts) * NEW

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

    @torch.inference_mode()
    def score_bare(self, precision: Precision) -> int:
        with precision.autocast("score"):
            for first in range(0, len(self.rows), BATCH):
                ids = torch.from_numpy(np.stack(self.rows[first : first + BATCH]).astype(np.int64))
                logits = self.network(input_ids=ids, use_cache=False).logits[:, :-1].float()
                torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None])
        return len(self.rows) * BLOCK

    def score_lab(self, precision: Precision) -> int:
        with precision.autocast("score"):
            token_log_probs(self.network, self.rows, pad=self.tokenizer.pad)
        return len(self.rows) * BLOCK


def speed(work: Callable[[Precision], int], precision: Precision) -> float:
    start = time.perf_counter()
    tokens = work(precision)
    return tokens / (time.perf_counter() - start)


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text", type=Path, required=True, help="plain text to train on, to write on from, to score")
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps of a round")
    parser.add_argument("--windows", type=int, default=32, help="windows that are written in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

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
    print("\n| phase | float32, tokens/s | bfloat16, tokens/s | the rule takes |\n|---|---|---|---|")
    formats = Precision("cpu"), Precision("cpu", train=True, score=True, decode=True)
    for name, (_, lab) in works.items():
        slow, fast = ([speed(lab, choice) for _ in range(options.rounds)] for choice in formats)
        taken = "bfloat16" if getattr(auto, name) else "float32"
        print(f"| {name} | {spread(slow, '.0f')} | {spread(fast, '.0f')} | {taken} |")


if __name__ == "__main__":
    main()
