"""Log-probabilities of given tokens under a causal language model, in one forward pass.

Rule: batches are a function of the rows' lengths alone, and the logarithm is taken in float32.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# The largest number of logits held at once: 256 MiB in float32.
_LOGITS = 1 << 26


def token_log_probs(
    network: Any, rows: Sequence[NDArray[np.int32]], *, pad: int = 0, batch_tokens: int = 16_384
) -> list[NDArray[np.float32]]:
    """ln p of every token of each row but the first, given the tokens before it in the row.

    Args:
        network: a Hugging Face causal language model; it is left in the mode (train or eval) it was in.
        rows: token ids, each of length L >= 1 and within the model's positions.
        pad: any valid id; padded positions are masked.
        batch_tokens: the most tokens, padding included, in a forward pass.

    Returns:
        For each row an array of L - 1 values in nats, in the order of `rows`.
    """
    device = next(network.parameters()).device
    limit = max(1, min(batch_tokens, _LOGITS // network.config.get_text_config().vocab_size))
    scored: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(rows)
    with _evaluating(network), torch.inference_mode():
        for batch in _batches([len(row) for row in rows], limit):
            ids, mask = _padded([rows[i] for i in batch], pad, device)
            logits = network(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
            chosen = logits.gather(-1, ids[:, 1:, None]).squeeze(-1) - logits.logsumexp(-1)
            # Rounding can lift a certain token a hair above 0.
            values = chosen.clamp(max=0).cpu().numpy()
            for place, i in enumerate(batch):
                scored[i] = values[place, : len(rows[i]) - 1].copy()
    return scored


@contextmanager
def _evaluating(network: Any) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def _batches(lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Indices of rows with more than one token, grouped by similar length, at most `limit` padded tokens a group."""
    order = sorted((i for i, n in enumerate(lengths) if n > 1), key=lambda i: (lengths[i], i))
    batch: list[int] = []
    for i in order:
        if batch and lengths[i] * (len(batch) + 1) > limit:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _padded(rows: Sequence[NDArray[np.int32]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.from_numpy(row.astype(np.int64))
        mask[place, : len(row)] = 1
    return ids.to(device), mask.to(device)
