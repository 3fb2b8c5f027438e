"""Two-way questions as rows of token ids, and the NLL of tokens at several temperatures.

Rule: every score of a question splits context and sentence in this one way.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tailkeep.data import Question
from tailkeep.losses.sequences import evaluation_mode
from tailkeep.runs import track_loop
from tailkeep.scoring.scorer import Window, batch_windows
from tailkeep.scoring.split_model import SplitModel

Ids = NDArray[np.int32]


def start_token_of(tokenizer: Any) -> int | None:
    """The id that `tokenizer` itself puts before every text, None if it puts none there.

    A `bos_token` says only that there is such a token: that of a chat model marks the start of a message. The token is
    looked for before a text, since alone it could as well be one that is put behind.
    """
    first = tokenizer("a", verbose=False)["input_ids"][:1]
    return int(first[0]) if first and first[0] == tokenizer.bos_token_id else None


def encode_without_eos(tokenizer: Any, text: str, *, start: int | Literal["auto"] | None = "auto") -> Ids:
    """The ids of a text after the start token, without an EOS token.

    Args:
        tokenizer: a transformers tokenizer.
        text: one that spells a special token is encoded as text.
        start: the id of the start token, None for none; `auto` follows the tokenizer, see `start_token_of`.
    """
    added = start_token_of(tokenizer)
    ids = list(tokenizer(text, verbose=False, split_special_tokens=True)["input_ids"])
    if added is not None:
        ids.pop(0)
    if ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    start_id = added if start == "auto" else start
    return np.array(ids if start_id is None else [start_id, *ids], dtype=np.int32)


def encode_question(question: Question, encode: Callable[[str], Ids]) -> tuple[int, Ids, Ids]:
    """The number of context tokens, and the rows context + true and context + false, without EOS.

    The context ends where the tokens of the two rows and of the context alone first differ, so a token that spans the
    join belongs to the sentence. An EOS token would be compared with a word of the longer sentence. `encode` returns
    ids without EOS, for example `encode_without_eos` of a tokenizer.
    """
    wholes = (f"{question.context} {end}" for end in (question.sentence_true, question.sentence_false))
    context, true, false = map(encode, (question.context, *wholes))
    shared = min(len(context), len(true) - 1, len(false) - 1)
    same = (context[:shared] == true[:shared]) & (context[:shared] == false[:shared])
    length = int(shared if same.all() else same.argmin())
    return max(length, 1), true, false


def tempered_nll(
    network: Any,
    rows: Sequence[NDArray[np.int32]],
    temperatures: Sequence[float],
    *,
    pad: int = 0,
    batch_tokens: int = 16_384,
) -> NDArray[np.float64]:
    """-ln p_T of each row's tokens but the first, summed over the row; shape (rows, temperatures), in nats.

    p_T(y) is proportional to p(y)^(1/T), so T = 1 is the model itself. One forward pass serves all temperatures, and no
    tensor of all tokens times the vocabulary ever exists.

    Args:
        network: a Hugging Face causal language model; its mode (train or eval) does not change.
        rows: token ids, each within the model's positions; one of a single token has 0.
        temperatures: above 0.
        pad: any valid id; no token sees the padding, which is on the right.
        batch_tokens: the most tokens, padding included, in a forward pass of more than one row.

    Raises:
        InputError: a model that cannot be split (see `SplitModel`).
    """
    model = SplitModel(network)
    sums = np.zeros((len(rows), len(temperatures)))
    windows = [Window(number, 0, 1, len(row)) for number, row in enumerate(rows) if len(row) > 1]
    loop = track_loop(sum(window.width - 1 for window in windows), "tokens scored")
    with evaluation_mode(network), torch.inference_mode():
        for batch in batch_windows(windows, batch_tokens):
            if loop.enough:
                sums[[window.row for window in batch]] = [[window.width - 1] for window in batch]
                continue
            _add_batch(sums, model, [(window.row, rows[window.row]) for window in batch], temperatures, pad)
            num_scored = sum(window.width - 1 for window in batch)
            loop.advance(num_scored, amount=num_scored)
    return sums


def _add_batch(
    sums: NDArray[np.float64],
    model: SplitModel,
    batch: list[tuple[int, NDArray[np.int32]]],
    temperatures: Sequence[float],
    pad: int,
) -> None:
    width = max(len(row) for _, row in batch)
    ids = np.full((len(batch), width), pad, np.int64)
    for i, (_, row) in enumerate(batch):
        ids[i, : len(row)] = row
    indices, positions = np.nonzero(np.arange(width - 1) < np.array([[len(row) - 1] for _, row in batch]))
    hidden = model.hidden_states(torch.from_numpy(ids).to(model.device))[indices, positions]
    targets = torch.from_numpy(ids[indices, positions + 1]).to(model.device)
    numbers = np.array([number for number, _ in batch])[indices]
    for start in range(0, len(hidden), model.chunk_size):
        chunk = slice(start, start + model.chunk_size)
        log_probs = model.log_probs(hidden[chunk])
        target_log_probs = log_probs.gather(1, targets[chunk, None])[:, 0]
        for column, temperature in enumerate(temperatures):
            nll = (log_probs / temperature).logsumexp(-1) - target_log_probs / temperature
            np.add.at(sums[:, column], numbers[chunk], nll.double().cpu().numpy())
