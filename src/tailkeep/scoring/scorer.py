"""The scorer for any causal language model of transformers.

Rule: what it returns is a function of the rows handed in and of what `identity` names.
"""

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailkeep.errors import ConfigError, InputError
from tailkeep.runs import hash_path
from tailkeep.scoring.loading import CODE, TOKENIZER, WEIGHTS
from tailkeep.scoring.prior import Prior, load_network, local_folder
from tailkeep.scoring.protocol import ScoredDocument, TokenFlagger, TokenSampler
from tailkeep.scoring.split_model import SplitModel, eval_mode

# Which tokens are read together: documents cut into overlapping windows, windows put into batches of similar length.
#
# Rule: all of it is a function of the documents' lengths and the two limits, so that no worker can change a result.


RowT = TypeVar("RowT", bound=Sized)


@dataclass(frozen=True)
class Window:
    """Tokens [start, stop) of document `row` are read; those of [first, stop) are scored."""

    row: int
    start: int
    first: int
    stop: int

    @property
    def width(self) -> int:
        """The number of tokens read."""
        return self.stop - self.start


def split_windows(row: int, length: int, size: int) -> Iterator[Window]:
    """Windows of at most `size` >= 2 tokens that score each token but the first of a document once.

    A token has all tokens before it as context, or at least `size / 2` of them.
    """
    if length < 2:
        return
    context = size - size // 2
    start, first = 0, 1
    while first < length:
        stop = min(start + size, length)
        yield Window(row, start, first, stop)
        start, first = stop - context, stop


def batch_windows(windows: Iterable[Window], limit: int) -> list[list[Window]]:
    """Batches of windows of similar width, of at most `limit` tokens with padding, or of one window."""
    batches: list[list[Window]] = []
    room = 0
    for window in sorted(windows, key=lambda window: (window.width, window.row, window.start)):
        if not batches or window.width * (len(batches[-1]) + 1) > room:
            batches.append([])
            room = max(limit, window.width)
        batches[-1].append(window)
    return batches


def group_rows(rows: Iterable[RowT], tokens: int) -> Iterator[list[RowT]]:
    """Consecutive documents of at least `tokens` tokens together; the last group may have fewer."""
    group: list[RowT] = []
    held = 0
    for row in rows:
        group.append(row)
        held += len(row)
        if held >= tokens:
            yield group
            group, held = [], 0
    if group:
        yield group


# Some documents scored together: their windows in batches, each token judged and drawn while its distribution exists.
#
# Rule: batches and chunks are a function of the documents' lengths alone, so what a token is scored beside is one too.


class WindowGroup:
    """Documents `rows`, the first of which has the number `offset`; its tokens lie one after another in flat arrays."""

    def __init__(
        self,
        model: SplitModel,
        rows: Sequence[NDArray[np.int32]],
        *,
        offset: int,
        batch_tokens: int,
        window: int,
        pad: int = 0,
    ) -> None:
        self._model, self._offset, self._pad = model, offset, pad
        lengths = [len(row) for row in rows]
        self._bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._tokens = np.concatenate([np.zeros(0, np.int32), *rows]).astype(np.int64)
        self._documents = np.repeat(np.arange(len(rows), dtype=np.int64) + offset, lengths)
        self._check_ids()
        windows = [found for row, length in enumerate(lengths) for found in split_windows(row, length, window)]
        self._batches = batch_windows(windows, batch_tokens)
        self._log_probs = np.full(len(self._tokens), np.nan, np.float32)
        self._flagged = np.zeros(len(self._tokens), np.bool_)
        self._new_ids = np.zeros(len(self._tokens), np.int32)
        self._new_log_probs = np.zeros(len(self._tokens), np.float32)

    def score(self, judge: TokenFlagger | None, draw: TokenSampler | None) -> list[ScoredDocument]:
        """See `Scorer.score`."""
        for batch in self._batches:
            hidden, scored = self._hidden(batch), self._scored(batch)
            for start in range(0, len(scored), self._model.chunk_size):
                part = slice(start, start + self._model.chunk_size)
                self._read(hidden[part], scored[part], judge, draw)
        return [self._result(row) for row in range(len(self._bounds) - 1)]

    def _check_ids(self) -> None:
        if len(self._tokens) == 0:
            return
        low, high = int(self._tokens.min()), int(self._tokens.max())
        if low < 0 or high >= self._model.num_readable_ids:
            wrong = low if low < 0 else high
            number = int(self._documents[self._tokens == wrong][0])
            raise InputError(
                f"document {number} has the token id {wrong}, and the model knows {self._model.num_readable_ids} "
                "tokens. Give the tokenizer that belongs to the model."
            )

    def _scored(self, batch: Sequence[Window]) -> NDArray[np.int64]:
        """The flat places of the tokens that a batch scores."""
        return np.concatenate([self._bounds[w.row] + np.arange(w.first, w.stop) for w in batch])

    def _hidden(self, batch: Sequence[Window]) -> Tensor:
        """The hidden states (N, D) from which the batch's scored tokens are predicted."""
        width = max(window.width for window in batch)
        ids = np.full((len(batch), width), self._pad, np.int64)
        for place, w in enumerate(batch):
            ids[place, : w.width] = self._tokens[self._bounds[w.row] + w.start : self._bounds[w.row] + w.stop]
        before = [place * width + np.arange(w.first - 1, w.stop - 1) - w.start for place, w in enumerate(batch)]
        hidden = self._model.hidden(self._to(ids))
        return hidden.flatten(0, 1)[self._to(np.concatenate(before))]

    def _read(
        self, hidden: Tensor, places: NDArray[np.int64], judge: TokenFlagger | None, draw: TokenSampler | None
    ) -> None:
        """Score the tokens at `places` (N,), predicted from `hidden` (N, D); draw those that are flagged."""
        rows, originals = self._model.distributions(hidden), self._to(self._tokens[places])
        self._log_probs[places] = rows.gather(1, originals[:, None])[:, 0].cpu().numpy()
        if judge is None:
            return
        documents = self._documents[places]
        positions = places - self._bounds[documents - self._offset]
        flagged = np.flatnonzero(judge(documents, positions, self._log_probs[places]))
        if len(flagged) == 0:
            return
        assert draw is not None, "what is flagged needs a draw"
        at = self._to(flagged)
        ids, log_probs = draw(documents[flagged], positions[flagged], rows[at], originals[at])
        self._flagged[places[flagged]] = True
        self._new_ids[places[flagged]] = ids.cpu().numpy()
        self._new_log_probs[places[flagged]] = log_probs.float().cpu().numpy()

    def _result(self, row: int) -> ScoredDocument:
        start, stop = self._bounds[row], self._bounds[row + 1]
        positions = np.flatnonzero(self._flagged[start:stop])
        places = start + positions
        return ScoredDocument(
            self._log_probs[start:stop].copy(), positions, self._new_ids[places], self._new_log_probs[places]
        )

    def _to(self, values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(self._model.device)


# Log-probabilities of given tokens under a causal language model.
#
# Rule: batches are a function of the rows' lengths alone, and the logarithm is taken in float32.


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
        InputError: a token id that the model cannot read, or a model that cannot be taken apart (see `SplitModel`).
    """
    window = max([2, *map(len, rows)])
    scored = score_rows(SplitModel(network), rows, None, None, batch_tokens=batch_tokens, window=window, pad=pad)
    return [row.log_probs[1:] for row in scored]


def score_rows(
    model: SplitModel,
    rows: Iterable[NDArray[np.int32]],
    judge: TokenFlagger | None,
    draw: TokenSampler | None,
    **limits: int,
) -> Iterator[ScoredDocument]:
    """`Scorer.score` for a model taken apart; `limits` are those of `WindowGroup`."""
    offset = 0
    for group in group_rows(rows, _BATCHES * limits["batch_tokens"]):
        # Neither mode must reach the caller of this generator between two documents.
        with eval_mode(model.network), torch.inference_mode():
            scored = WindowGroup(model, group, offset=offset, **limits).score(judge, draw)
        yield from scored
        offset += len(group)


class CausalLMScorer:
    """See `Scorer`. `window` is the most tokens that a forward pass reads of a document at once.

    Raises:
        InputError: a prior that cannot be read or used.
        ConfigError: a device that is not there, or a window that the model or the batch has no room for.
    """

    def __init__(self, prior: Prior) -> None:
        self.folder: Path = local_folder(prior)
        self.name = str(prior.path) if prior.revision is None else f"{prior.path}@{prior.revision}"
        self._prior = prior
        self._model = SplitModel(load_network(prior, self.folder))
        self.vocab_size = self._model.vocab_size
        self.window = _window_of(prior, self._model.max_positions)

    def identity(self) -> dict[str, Any]:
        """The sha256 of the files that decide a score, by name, and the choices that do; the folder's name is free."""
        network = self._model.network
        patterns = ("config.json", *WEIGHTS, *TOKENIZER, *(CODE if self._prior.trust_remote_code else ()))
        files = sorted({file for pattern in patterns for file in self.folder.glob(pattern) if file.is_file()})
        return {
            "files": {file.name: hash_path(file) for file in files},
            "dtype": str(network.dtype).removeprefix("torch."),
            "device": self._model.device.type,
            "attention": str(getattr(network.config, "_attn_implementation", None)),
            "batch_tokens": self._prior.batch_tokens,
            "window": self.window,
        }

    def score(
        self, rows: Iterable[NDArray[np.int32]], judge: TokenFlagger | None = None, draw: TokenSampler | None = None
    ) -> Iterator[ScoredDocument]:
        """See `Scorer.score`."""
        return score_rows(self._model, rows, judge, draw, batch_tokens=self._prior.batch_tokens, window=self.window)


def _window_of(prior: Prior, positions: int | None) -> int:
    room = min(prior.batch_tokens, positions or prior.batch_tokens)
    if prior.window is None:
        return room
    if positions is not None and prior.window > positions:
        raise ConfigError(f"prior.window: {prior.window}, and the model has {positions} positions. Lower it to them.")
    if prior.window > prior.batch_tokens:
        raise ConfigError(
            f"prior.window: {prior.window} is more than prior.batch_tokens {prior.batch_tokens}. Lower the window."
        )
    return prior.window
