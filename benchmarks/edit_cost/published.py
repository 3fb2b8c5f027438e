"""(c) The published way, in our own words: each token's 64 most probable candidates as a dictionary, then a loop.

ToEdit's description (arXiv 2412.14689) and its engine's interface: a prior returns for every token of a prompt a
dictionary of log-probabilities of the most probable tokens and the token itself; a loop of numpy over them keeps a
token or draws another, and the whole text is decoded anew. Kept fair: tailkeep's own windows and batches, one topk a
tensor, plain floats in the dictionaries (the engine makes an object with decoded text of each), no numpy call for
tokens that stay.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edit_cost.forward import Batch, Network, as_batch, loaded, token_groups, windows_in_batches
from edit_cost.measuring import Spent, Stopwatch

_CANDIDATES = 64
# The engine's full distributions are those of a text of at most so many tokens.
_AT_ONCE = 2048

Candidates = dict[int, float]


def published(
    prior: Path, path: Path, document: str, *, threads: int, threshold: float, share: float | None, out: Path
) -> Spent:
    """What the edit of the documents of `path` into the text file `out` takes; `share` flags at random instead."""
    torch.set_num_threads(threads)
    watch = Stopwatch()
    network = loaded(prior)
    watch.begin()
    rng = np.random.default_rng(0)
    tokens = flagged = 0
    with out.open("w", encoding="utf-8", newline="") as file, torch.inference_mode():
        for rows in token_groups(network, path, document):
            tokens += sum(map(len, rows))
            edited = [row.copy() for row in rows]
            for windows in windows_in_batches(network, rows):
                batch = as_batch(rows, windows)
                found = iter(_dictionaries(network, batch))
                for window in windows:
                    for place in range(window.first, window.stop):
                        candidates, token = next(found), int(rows[window.row][place])
                        sure = candidates[token] >= math.log(threshold) if share is None else rng.random() < share
                        if sure:
                            flagged += 1
                            edited[window.row][place] = _drawn(candidates, rng)
            file.writelines(_lines(network, edited))
    return watch.spent(tokens=tokens, flagged=flagged)


def _dictionaries(network: Network, batch: Batch) -> list[Candidates]:
    """The candidates of each predicted token."""
    hidden = network.hidden(batch)
    found: list[Candidates] = []
    for start in range(0, len(hidden), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        found += _of(network.model.lm_head(hidden[part]).float().log_softmax(-1), batch.targets[part])
    return found


def _of(log_probs: Tensor, targets: Tensor) -> list[Candidates]:
    best = log_probs.topk(_CANDIDATES, dim=-1)
    own = log_probs.gather(1, targets[:, None]).squeeze(1).tolist()
    lists = zip(best.indices.tolist(), best.values.tolist(), targets.tolist(), own, strict=True)
    return [{**dict(zip(ids, values, strict=True)), token: value} for ids, values, token, value in lists]


def _drawn(candidates: Candidates, rng: np.random.Generator) -> int:
    weights = np.exp(np.fromiter(candidates.values(), np.float64, len(candidates)))
    place = rng.choice(len(candidates), p=weights / weights.sum())
    return list(candidates)[place]


def _lines(network: Network, rows: Sequence[NDArray[np.int32]]) -> list[str]:
    texts = network.tokenizer.batch_decode([row.tolist() for row in rows], skip_special_tokens=True)
    return [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
