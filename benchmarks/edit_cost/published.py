"""(c) The published way, re-implemented: a dictionary of the 64 most probable candidates per token, then a loop.

It follows the description of ToEdit (arXiv 2412.14689) and the interface of its engine: for every token of a prompt the
prior returns a dictionary with the log-probabilities of the most probable tokens and of the token itself; a numpy loop
keeps each token or samples another, and the whole text is decoded again. To be fair it uses the windows and batches of
tailkeep, one topk per tensor, plain floats in the dictionaries (the engine creates an object with decoded text for
each), and no numpy call for tokens that stay.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edit_cost.forward import Batch, Network, as_batch, load_network, token_groups, windows_in_batches
from edit_cost.measuring import Spent, Stopwatch

_CANDIDATES = 64
# The engine computes full distributions of at most so many tokens at once.
_AT_ONCE = 2048

Candidates = dict[int, float]


def run_published(
    prior: Path, path: Path, document: str, *, threads: int, threshold: float, share: float | None, out: Path
) -> Spent:
    """The cost of editing the documents of `path` into the text file `out`; `share` flags at random instead."""
    torch.set_num_threads(threads)
    watch = Stopwatch()
    network = load_network(prior)
    watch.begin()
    rng = np.random.default_rng(0)
    tokens = flagged = 0
    with out.open("w", encoding="utf-8", newline="") as file, torch.inference_mode():
        for rows in token_groups(network, path, document):
            tokens += sum(map(len, rows))
            edited = [row.copy() for row in rows]
            for windows in windows_in_batches(network, rows):
                batch = as_batch(rows, windows)
                dictionaries = iter(_dictionaries(network, batch))
                for window in windows:
                    for position in range(window.first, window.stop):
                        candidates, token = next(dictionaries), int(rows[window.row][position])
                        is_flagged = candidates[token] >= math.log(threshold) if share is None else rng.random() < share
                        if is_flagged:
                            flagged += 1
                            edited[window.row][position] = _sample(candidates, rng)
            file.writelines(_lines(network, edited))
    return watch.spent(tokens=tokens, flagged=flagged)


def _dictionaries(network: Network, batch: Batch) -> list[Candidates]:
    """The candidates of each predicted token."""
    hidden = network.hidden(batch)
    candidates: list[Candidates] = []
    for start in range(0, len(hidden), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        candidates += _top_candidates(network.model.lm_head(hidden[part]).float().log_softmax(-1), batch.targets[part])
    return candidates


def _top_candidates(log_probs: Tensor, targets: Tensor) -> list[Candidates]:
    best = log_probs.topk(_CANDIDATES, dim=-1)
    target_log_probs = log_probs.gather(1, targets[:, None]).squeeze(1).tolist()
    lists = zip(best.indices.tolist(), best.values.tolist(), targets.tolist(), target_log_probs, strict=True)
    return [{**dict(zip(ids, values, strict=True)), token: value} for ids, values, token, value in lists]


def _sample(candidates: Candidates, rng: np.random.Generator) -> int:
    weights = np.exp(np.fromiter(candidates.values(), np.float64, len(candidates)))
    index = rng.choice(len(candidates), p=weights / weights.sum())
    return list(candidates)[index]


def _lines(network: Network, rows: Sequence[NDArray[np.int32]]) -> list[str]:
    texts = network.tokenizer.batch_decode([row.tolist() for row in rows], skip_special_tokens=True)
    return [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
