"""(a) The physical limit: a bare forward pass over the same windows and batches as tailkeep.

Body, output layer and the log-probability of each token, in the chunks of tokens that tailkeep uses, since all
logits of a batch at once would be slower and, with a large vocabulary, exceed the memory. Files, text and tokens are
read before the clock starts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edit_cost.measuring import Spent, Stopwatch
from tailkeep.data.corpus import Layout, Record, find_shards, read_shard
from tailkeep.edit.editor import EditPrior, group_documents, load_model
from tailkeep.scoring import Prior
from tailkeep.scoring.loading import load_tokenizer
from tailkeep.scoring.scorer import _BATCHES, Window, batch_windows, split_windows
from tailkeep.scoring.scorer import group_rows as group_rows_for_scoring


@dataclass(frozen=True)
class Batch:
    """Token ids (B, T), the flat indices (N,) of the hidden states that predict, and their targets (N,)."""

    ids: Tensor
    before: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Network:
    """A network, its tokenizer in transformers, and the `EditPrior` of both."""

    model: Any
    tokenizer: Any
    prior: EditPrior
    window: int
    batch_tokens: int

    def hidden(self, batch: Batch) -> Tensor:
        """The hidden states (N, D) that predict a token each."""
        states = self.model.base_model(input_ids=batch.ids, use_cache=False).last_hidden_state
        return states.flatten(0, 1)[batch.before]


def load_network(prior: Path) -> Network:
    """Load the prior as tailkeep does."""
    settings = Prior(path=prior)
    edit_prior: Any = load_model(settings)
    scorer = edit_prior.scorer
    return Network(scorer._model.network, load_tokenizer(prior), edit_prior, scorer.window, settings.batch_tokens)


def token_groups(network: Network, path: Path, document: str) -> Iterator[list[NDArray[np.int32]]]:
    """The documents of `path` as token ids, in the groups whose windows tailkeep sorts into batches together."""
    (shard,) = find_shards([str(path)])
    records = (item for item in read_shard(shard, Layout(document_separator=document)) if isinstance(item, Record))
    for group in group_documents(records, network.prior.tokenizer, network.prior.detokenize):
        rows = [prepared.tokens.ids.astype(np.int32) for prepared in group]
        yield from group_rows_for_scoring(rows, _BATCHES * network.batch_tokens)


def windows_in_batches(network: Network, rows: Sequence[NDArray[np.int32]]) -> list[list[Window]]:
    """The windows of `rows` in tailkeep's batches."""
    windows = [window for row, ids in enumerate(rows) for window in split_windows(row, len(ids), network.window)]
    return batch_windows(windows, network.batch_tokens)


def as_batch(rows: Sequence[NDArray[np.int32]], windows: Iterable[Window]) -> Batch:
    """The tensors of one batch."""
    windows = list(windows)
    width = max(window.width for window in windows)
    ids = np.zeros((len(windows), width), np.int64)
    for index, w in enumerate(windows):
        ids[index, : w.width] = rows[w.row][w.start : w.stop]
    before = [index * width + np.arange(w.first - 1, w.stop - 1) - w.start for index, w in enumerate(windows)]
    targets = np.concatenate([rows[w.row][w.first : w.stop] for w in windows]).astype(np.int64)
    return Batch(torch.from_numpy(ids), torch.from_numpy(np.concatenate(before)), torch.from_numpy(targets))


def run_forward(prior: Path, path: Path, document: str, *, threads: int) -> Spent:
    """The cost of a forward pass over the documents of `path`."""
    torch.set_num_threads(threads)
    watch = Stopwatch()
    network = load_network(prior)
    batches, tokens = [], 0
    for rows in token_groups(network, path, document):
        tokens += sum(map(len, rows))
        batches += [as_batch(rows, windows) for windows in windows_in_batches(network, rows)]
    watch.begin()
    total = 0.0
    with torch.inference_mode():
        for batch in batches:
            total += float(_log_probs(network, batch).sum())
    return watch.spent(tokens=tokens, note=f"mean ln p {total / max(tokens, 1):.4f}")


def _log_probs(network: Network, batch: Batch) -> Tensor:
    hidden = network.hidden(batch)
    log_probs = torch.empty(len(hidden))
    chunk = network.prior.scorer._model.chunk_size
    for start in range(0, len(hidden), chunk):
        part = slice(start, start + chunk)
        logits = network.model.lm_head(hidden[part])
        log_probs[part] = -functional.cross_entropy(logits, batch.targets[part], reduction="none")
    return log_probs
