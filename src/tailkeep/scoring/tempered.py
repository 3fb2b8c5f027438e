"""How likely given tokens are at several temperatures, from one pass.

Rule: no tensor of all tokens times the vocabulary ever exists; batches are a function of the rows' lengths alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailkeep.scoring.halves import Halves, evaluating
from tailkeep.scoring.windows import Window, batches_of


def tempered_nll(
    network: Any,
    rows: Sequence[NDArray[np.int32]],
    temperatures: Sequence[float],
    *,
    pad: int = 0,
    batch_tokens: int = 16_384,
) -> NDArray[np.float64]:
    """-ln p_T of each row's tokens but the first, summed over the row; shape (rows, temperatures), in nats.

    p_T(y) is proportional to p(y)^(1/T), so T = 1 is the model itself.

    Args:
        network: a Hugging Face causal language model; it is left in the mode (train or eval) it was in.
        rows: token ids, each within the model's positions; one of a single token has 0.
        temperatures: above 0.
        pad: any valid id; no token sees the padding, which is on the right.
        batch_tokens: the most tokens, padding included, in a forward pass of more than one row.

    Raises:
        InputError: a model that cannot be taken apart (see `Halves`).
    """
    model = Halves(network)
    found = np.zeros((len(rows), len(temperatures)))
    windows = [Window(number, 0, 1, len(row)) for number, row in enumerate(rows) if len(row) > 1]
    with evaluating(network), torch.inference_mode():
        for batch in batches_of(windows, batch_tokens):
            _add(found, model, [(window.row, rows[window.row]) for window in batch], temperatures, pad)
    return found


def _add(
    found: NDArray[np.float64],
    model: Halves,
    batch: list[tuple[int, NDArray[np.int32]]],
    temperatures: Sequence[float],
    pad: int,
) -> None:
    width = max(len(row) for _, row in batch)
    ids = np.full((len(batch), width), pad, np.int64)
    for place, (_, row) in enumerate(batch):
        ids[place, : len(row)] = row
    places, positions = np.nonzero(np.arange(width - 1) < np.array([[len(row) - 1] for _, row in batch]))
    hidden = model.hidden(torch.from_numpy(ids).to(model.device))[places, positions]
    targets = torch.from_numpy(ids[places, positions + 1]).to(model.device)
    numbers = np.array([number for number, _ in batch])[places]
    for start in range(0, len(hidden), model.chunk):
        part = slice(start, start + model.chunk)
        log_probs = model.distributions(hidden[part])
        chosen = log_probs.gather(1, targets[part, None])[:, 0]
        for column, temperature in enumerate(temperatures):
            nll = (log_probs / temperature).logsumexp(-1) - chosen / temperature
            np.add.at(found[:, column], numbers[part], nll.double().cpu().numpy())
