"""What the laboratory's training costs beside a bare PyTorch loop on the same rows, and truncation beside plain loss.

    python benchmarks/training.py [--csv FILE]

Each round times all rivals one after another on the same data and the same starting weights, so a slow moment of the
machine touches all of them; the ratios are medians over rounds of the ratio within a round.
"""

import argparse
import copy
import csv
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from tailkeep.lab.causal_lm.config import Training
from tailkeep.lab.causal_lm.training import train
from tailkeep.losses import CROSS_ENTROPY, Weighting, named_weighting
from tailkeep.scoring.loading import quiet_transformers

ROWS, BLOCK, VOCABULARY, BATCH = 512, 128, 512, 16


def network() -> Any:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=172,
        num_hidden_layers=5,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def bare(model: Any, rows: list[np.ndarray]) -> None:
    """The loop everybody writes: batches, forward, cross-entropy, backward, step."""
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.0)
    order = torch.randperm(len(rows)).tolist()
    for first in range(0, len(rows), BATCH):
        ids = torch.from_numpy(np.stack([rows[i] for i in order[first : first + BATCH]]).astype(np.int64))
        logits = model(input_ids=ids).logits[:, :-1]
        loss = F.cross_entropy(logits.reshape(-1, VOCABULARY).float(), ids[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()


def ours(weighting: Weighting) -> Callable[[Any, list[np.ndarray]], None]:
    def run(model: Any, rows: list[np.ndarray]) -> None:
        with quiet_transformers():
            train(
                model,
                rows,
                training=Training(block=BLOCK, batch=BATCH, epochs=1),
                weighting=weighting,
                budget=sum(len(row) - 1 for row in rows),
                pad=0,
                seed=0,
                device="cpu",
                bf16=False,
            )

    return run


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--csv", help="also write every round's seconds to this file")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--rows", type=int, default=ROWS, help="rows of 128 tokens, fewer for a trial")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    rows = [rng.integers(3, VOCABULARY, BLOCK + 1, dtype=np.int32) for _ in range(options.rows)]
    rivals = {
        "bare PyTorch loop": bare,
        "tailkeep, cross-entropy": ours(CROSS_ENTROPY),
        "tailkeep, truncated 0.99": ours(named_weighting("truncated", threshold=0.99)),
    }
    start = network()
    for rival in rivals.values():  # what only the first call pays, such as imports
        rival(copy.deepcopy(start), rows[: 2 * BATCH])
    rounds = []
    for _ in range(options.rounds):
        seconds = {}
        for name, rival in rivals.items():
            model = copy.deepcopy(start)
            begin = time.perf_counter()
            rival(model, rows)
            seconds[name] = time.perf_counter() - begin
        rounds.append(seconds)
    tokens = options.rows * BLOCK
    print(f"{tokens} tokens, {options.rounds} rounds, 1 thread, torch {torch.__version__}")
    print(f"{'':26} {'tokens/s':>9} {'time / bare':>12} {'range':>15}")
    for name in rivals:
        ratios = sorted(seconds[name] / seconds["bare PyTorch loop"] for seconds in rounds)
        speed = tokens / statistics.median(seconds[name] for seconds in rounds)
        print(f"{name:26} {speed:9.0f} {statistics.median(ratios):12.2f} {ratios[0]:7.2f}-{ratios[-1]:.2f}")
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rivals))
            writer.writeheader()
            writer.writerows(rounds)


if __name__ == "__main__":
    sys.exit(main())
