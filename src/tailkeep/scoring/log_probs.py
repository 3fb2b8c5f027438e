"""Log-probabilities of given tokens under a causal language model.

Rule: batches are a function of the rows' lengths alone, and the logarithm is taken in float32.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailkeep.scoring.group import Group
from tailkeep.scoring.halves import Halves, evaluating
from tailkeep.scoring.protocol import Draw, Judge, Scored
from tailkeep.scoring.windows import groups_of

# Batches whose windows are sorted by length together: enough for little padding, few enough to see progress.
_BATCHES = 32


def token_log_probs(
    network: Any, rows: Sequence[NDArray[np.int32]], *, pad: int = 0, batch_tokens: int = 16_384
) -> list[NDArray[np.float32]]:
    """ln p of every token of each row but the first, given the tokens before it in the row.

    Args:
        network: a Hugging Face causal language model; it is left in the mode (train or eval) it was in.
        rows: token ids, each of length L >= 1 and within the model's positions.
        pad: any valid id; no token sees the padding, which is on the right.
        batch_tokens: the most tokens, padding included, in a forward pass of more than one row.

    Returns:
        For each row an array of L - 1 values in nats, in the order of `rows`.

    Raises:
        InputError: a token id that the model cannot read, or a model that cannot be taken apart (see `Halves`).
    """
    window = max([2, *map(len, rows)])
    scored = score_rows(Halves(network), rows, None, None, batch_tokens=batch_tokens, window=window, pad=pad)
    return [row.log_probs[1:] for row in scored]


def score_rows(
    model: Halves,
    rows: Iterable[NDArray[np.int32]],
    judge: Judge | None,
    draw: Draw | None,
    **limits: int,
) -> Iterator[Scored]:
    """`Scorer.score` for a model taken apart; `limits` are those of `Group`."""
    offset = 0
    for group in groups_of(rows, _BATCHES * limits["batch_tokens"]):
        # Neither mode must reach the caller of this generator between two documents.
        with evaluating(model.network), torch.inference_mode():
            scored = Group(model, group, offset=offset, **limits).score(judge, draw)
        yield from scored
        offset += len(group)
