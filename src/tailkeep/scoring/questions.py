"""Two-way questions as rows of token ids. Rule: whoever scores questions cuts context and sentences in this one way."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailkeep.data import Question
from tailkeep.scoring.scorer import Window, batch_windows
from tailkeep.scoring.split_model import SplitModel, eval_mode

Ids = NDArray[np.int32]


def encode_without_eos(tokenizer: Any, text: str) -> Ids:
    """The ids of a text that goes on: the start token if the tokenizer has one, and no stop token.

    A text that spells a special token is text.
    """
    start: int | None = tokenizer.bos_token_id
    ids = list(tokenizer(text, verbose=False, split_special_tokens=True)["input_ids"])
    if start is not None and ids[:1] != [start]:
        ids.insert(0, start)
    # Some tokenizers end every text by themselves; where start and stop are one token, a lone one is the start.
    if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return np.array(ids, dtype=np.int32)


def encode_question(question: Question, encode: Callable[[str], Ids]) -> tuple[int, Ids, Ids]:
    """The number of context tokens, and the rows context + true and context + false, without a stop token.

    The context ends where the tokens of the two rows and of the context alone first differ, so a token that
    spans the join belongs to the sentence. A stop token would be compared with a word of the longer sentence.
    `encode` gives the ids of a text that goes on, such as `encode_without_eos` of a tokenizer.
    """
    wholes = (f"{question.context} {end}" for end in (question.sentence_true, question.sentence_false))
    context, true, false = map(encode, (question.context, *wholes))
    shared = min(len(context), len(true) - 1, len(false) - 1)
    same = (context[:shared] == true[:shared]) & (context[:shared] == false[:shared])
    length = int(shared if same.all() else same.argmin())
    return max(length, 1), true, false


# How likely given tokens are at several temperatures, from one pass.
#
# Rule: no tensor of all tokens times the vocabulary ever exists; batches are a function of the rows' lengths alone.


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
        InputError: a model that cannot be taken apart (see `SplitModel`).
    """
    model = SplitModel(network)
    found = np.zeros((len(rows), len(temperatures)))
    windows = [Window(number, 0, 1, len(row)) for number, row in enumerate(rows) if len(row) > 1]
    with eval_mode(network), torch.inference_mode():
        for batch in batch_windows(windows, batch_tokens):
            _add(found, model, [(window.row, rows[window.row]) for window in batch], temperatures, pad)
    return found


def _add(
    found: NDArray[np.float64],
    model: SplitModel,
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
    for start in range(0, len(hidden), model.chunk_size):
        part = slice(start, start + model.chunk_size)
        log_probs = model.distributions(hidden[part])
        chosen = log_probs.gather(1, targets[part, None])[:, 0]
        for column, temperature in enumerate(temperatures):
            nll = (log_probs / temperature).logsumexp(-1) - chosen / temperature
            np.add.at(found[:, column], numbers[part], nll.double().cpu().numpy())
