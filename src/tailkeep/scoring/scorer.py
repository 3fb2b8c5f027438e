"""The scorer for any causal language model of transformers: windows, batches, and the forward passes over them.

Rule: a score is a function of the rows and of what `identity` names. Windows, batches and chunks are a function of the
rows' lengths and two limits, so no worker can change a result; the logarithm is taken in float32.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailkeep.errors import ConfigError, InputError
from tailkeep.losses.sequences import evaluation_mode
from tailkeep.runs import LoopProgress, hash_path, track_loop
from tailkeep.runs.storage import keeps_journal, read_journal, write_journal
from tailkeep.scoring.loading import Prior, load_prior_network, local_folder, model_files, nonfinite_weight
from tailkeep.scoring.split_model import SplitModel

RowT = TypeVar("RowT", bound=Sized)
# Batches whose windows are sorted by length together: enough for little padding, few enough to see progress.
_BATCHES = 32
# The ln p of tokens that an estimate of time leaves unscored.
_MADE_UP = -1.0

TokenFlagger = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]], NDArray[np.bool_]]
"""(documents (N,), positions (N,), ln p (N,)) -> (N,) mask of the tokens to resample.

Each scored token is passed once. Which tokens share a call has no meaning; ln p can be NaN.
"""

TokenSampler = Callable[[NDArray[np.int64], NDArray[np.int64], Tensor, Tensor], tuple[Tensor, Tensor]]
"""(documents (F,), positions (F,), ln p (F, V) float32, original ids (F,)) -> (new ids (F,), their ln p (F,)).

Called with the tokens that one call of the flagger flagged. A result may depend only on document, position and
distribution.
"""


@dataclass(frozen=True)
class ScoredDocument:
    """One document: `log_probs` (T,) in nats, NaN for the first token; for each flagged position the sampled token."""

    log_probs: NDArray[np.float32]
    positions: NDArray[np.int64]
    ids: NDArray[np.int32]
    new_log_probs: NDArray[np.float32]


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
    """Batches of windows of similar width, of at most `limit` tokens with padding or of one window."""
    batches: list[list[Window]] = []
    capacity = 0
    for window in sorted(windows, key=lambda window: (window.width, window.row, window.start)):
        if not batches or window.width * (len(batches[-1]) + 1) > capacity:
            batches.append([])
            capacity = max(limit, window.width)
        batches[-1].append(window)
    return batches


def group_rows(rows: Iterable[RowT], tokens: int) -> Iterator[list[RowT]]:
    """Consecutive documents of at least `tokens` tokens together; the last group may have fewer."""
    group: list[RowT] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row)
        if size >= tokens:
            yield group
            group, size = [], 0
    if group:
        yield group


class WindowGroup:
    """Documents scored together; each token is flagged and sampled while its distribution exists.

    The first of `rows` has the number `offset`. The tokens of all rows lie one after another in flat arrays.
    """

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
        windows = [part for row, length in enumerate(lengths) for part in split_windows(row, length, window)]
        self._batches = batch_windows(windows, batch_tokens)
        self._log_probs = np.full(len(self._tokens), np.nan, np.float32)
        self._flagged = np.zeros(len(self._tokens), np.bool_)
        self._new_ids = np.zeros(len(self._tokens), np.int32)
        self._new_log_probs = np.zeros(len(self._tokens), np.float32)

    def score(self, flag: TokenFlagger | None, sample: TokenSampler | None, loop: LoopProgress) -> list[ScoredDocument]:
        """See `CausalLMScorer.score`; each batch is counted in `loop`."""
        for batch in self._batches:
            if loop.enough:
                self._log_probs[np.isnan(self._log_probs)] = _MADE_UP
                break
            indices = self._scored_indices(batch)
            key = self._content_hash(batch) if keeps_journal() else None
            stored = None if key is None else read_journal(key)
            if stored is None:
                hidden = self._hidden_states(batch)
                for start in range(0, len(indices), self._model.chunk_size):
                    chunk = slice(start, start + self._model.chunk_size)
                    self._score_chunk(hidden[chunk], indices[chunk], flag, sample)
                if key is not None:
                    write_journal(key, self._pack(indices))
            else:
                self._unpack(stored, indices, flag)
            loop.advance(len(indices), amount=len(indices))
        return [self._result(row) for row in range(len(self._bounds) - 1)]

    def _check_ids(self) -> None:
        if len(self._tokens) == 0:
            return
        low, high = int(self._tokens.min()), int(self._tokens.max())
        if low < 0 or high >= self._model.num_readable_ids:
            invalid = low if low < 0 else high
            number = int(self._documents[self._tokens == invalid][0])
            raise InputError(
                f"document {number} has the token id {invalid}, but the model has {self._model.num_readable_ids} "
                "tokens. Give the tokenizer that belongs to the model."
            )

    def _scored_indices(self, batch: Sequence[Window]) -> NDArray[np.int64]:
        """The flat indices of the tokens that a batch scores."""
        return np.concatenate([self._bounds[w.row] + np.arange(w.first, w.stop) for w in batch])

    def _hidden_states(self, batch: Sequence[Window]) -> Tensor:
        """The hidden states (N, D) from which the batch's scored tokens are predicted."""
        width = max(window.width for window in batch)
        ids = np.full((len(batch), width), self._pad, np.int64)
        for i, w in enumerate(batch):
            ids[i, : w.width] = self._tokens[self._bounds[w.row] + w.start : self._bounds[w.row] + w.stop]
        previous = [i * width + np.arange(w.first - 1, w.stop - 1) - w.start for i, w in enumerate(batch)]
        hidden = self._model.hidden_states(self._to(ids))
        return hidden.flatten(0, 1)[self._to(np.concatenate(previous))]

    def _score_chunk(
        self, hidden: Tensor, indices: NDArray[np.int64], flag: TokenFlagger | None, sample: TokenSampler | None
    ) -> None:
        """Score the tokens at `indices` (N,), predicted from `hidden` (N, D), and resample the flagged ones."""
        log_probs, originals = self._model.log_probs(hidden), self._to(self._tokens[indices])
        self._log_probs[indices] = log_probs.gather(1, originals[:, None])[:, 0].cpu().numpy()
        resampled = self._ask(flag, indices)
        if len(resampled) == 0:
            return
        assert sample is not None, "flagged tokens need a sampler"
        at, flat = self._to(resampled), indices[resampled]
        new_ids, new_log_probs = sample(*self._places(flat), log_probs[at], originals[at])
        self._flagged[flat] = True
        self._new_ids[flat] = new_ids.cpu().numpy()
        self._new_log_probs[flat] = new_log_probs.float().cpu().numpy()

    def _content_hash(self, batch: Sequence[Window]) -> bytes:
        """The hash of the tokens of `batch` and of where they stand."""
        digest = hashlib.sha256()
        for w in batch:
            start = self._bounds[w.row]
            digest.update(np.array([self._offset + w.row, w.start, w.first, w.stop]).tobytes())
            digest.update(self._tokens[start + w.start : start + w.stop].tobytes())
        return digest.digest()

    def _pack(self, indices: NDArray[np.int64]) -> bytes:
        """The results of the tokens at `indices` (N,): ln p (N,), then ids and ln p (F,) of those resampled."""
        resampled = indices[self._flagged[indices]]
        arrays = self._log_probs[indices], self._new_ids[resampled], self._new_log_probs[resampled]
        return b"".join(array.tobytes() for array in arrays)

    def _unpack(self, packed: bytes, indices: NDArray[np.int64], flag: TokenFlagger | None) -> None:
        """Take the results that `_pack` made of the same tokens; `flag` sees them as it did then."""
        values = np.frombuffer(packed, np.float32)
        self._log_probs[indices] = values[: len(indices)]
        resampled = self._ask(flag, indices)
        ids, log_probs = np.split(values[len(indices) :], 2)
        self._flagged[indices[resampled]] = True
        self._new_ids[indices[resampled]] = ids.view(np.int32)
        self._new_log_probs[indices[resampled]] = log_probs

    def _ask(self, flag: TokenFlagger | None, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which of the tokens at `indices`, once they are scored, are to be resampled."""
        if flag is None:
            return np.zeros(0, np.int64)
        return np.flatnonzero(flag(*self._places(indices), self._log_probs[indices]))

    def _places(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The document of each token, and its position there."""
        documents = self._documents[indices]
        return documents, indices - self._bounds[documents - self._offset]

    def _result(self, row: int) -> ScoredDocument:
        start, stop = self._bounds[row], self._bounds[row + 1]
        positions = np.flatnonzero(self._flagged[start:stop])
        indices = start + positions
        return ScoredDocument(
            self._log_probs[start:stop].copy(), positions, self._new_ids[indices], self._new_log_probs[indices]
        )

    def _to(self, values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(self._model.device)


def token_log_probs(
    network: Any, rows: Sequence[NDArray[np.int32]], *, pad: int = 0, batch_tokens: int = 16_384
) -> list[NDArray[np.float32]]:
    """ln p of every token of each row but the first, given the tokens before it in the row.

    Args:
        network: a Hugging Face causal language model; its mode (train or eval) does not change.
        rows: token ids, each of length L >= 1 and within the model's positions.
        pad: any valid id; no token sees the padding, which is on the right.
        batch_tokens: the most tokens, padding included, in a forward pass of more than one row.

    Returns:
        For each row an array of L - 1 values in nats, in the order of `rows`.

    Raises:
        InputError: a token id that the model cannot read, or a model that cannot be split (see `SplitModel`).
    """
    window = max([2, *map(len, rows)])
    loop = track_loop(sum(max(0, len(row) - 1) for row in rows), "tokens scored")
    limits = {"batch_tokens": batch_tokens, "window": window, "pad": pad}
    scored = score_rows(SplitModel(network), rows, None, None, loop, **limits)
    return [row.log_probs[1:] for row in scored]


def score_rows(
    model: SplitModel,
    rows: Iterable[NDArray[np.int32]],
    flag: TokenFlagger | None,
    sample: TokenSampler | None,
    loop: LoopProgress | None = None,
    **limits: int,
) -> Iterator[ScoredDocument]:
    """`CausalLMScorer.score` for a split model; `limits` are those of `WindowGroup`, `loop` counts tokens."""
    loop = loop or LoopProgress()
    offset = 0
    for group in group_rows(rows, _BATCHES * limits["batch_tokens"]):
        # Neither mode may reach the caller of this generator between two documents.
        with evaluation_mode(model.network), torch.inference_mode():
            scored = WindowGroup(model, group, offset=offset, **limits).score(flag, sample, loop)
        yield from scored
        offset += len(group)


class CausalLMScorer:
    """A language model used only to score text. `window` is the most tokens of a document in one forward pass.

    It knows no edit rule: which tokens are replaced and by what are the two functions given to `score`.

    Raises:
        InputError: a prior that cannot be read or used.
        ConfigError: the device is missing, or the window exceeds the model's positions or the batch.
    """

    def __init__(self, prior: Prior) -> None:
        self.folder: Path = local_folder(
            prior.path, revision=prior.revision, key="prior.path", trust_remote_code=prior.trust_remote_code
        )
        self._prior = prior
        self._model = SplitModel(load_prior_network(prior, self.folder))
        self.vocab_size = self._model.vocab_size
        self.window = _window_of(prior, self._model.max_positions)

    def identity(self) -> dict[str, Any]:
        """The sha256 of the files and the options that can change a score; the folder's name does not."""
        network = self._model.network
        files = model_files(self.folder, code=self._prior.trust_remote_code)
        return {
            "files": {file.name: hash_path(file) for file in files},
            "dtype": str(network.dtype).removeprefix("torch."),
            "device": self._model.device.type,
            "attention": str(getattr(network.config, "_attn_implementation", None)),
            "batch_tokens": self._prior.batch_tokens,
            "window": self.window,
        }

    def nan_reason(self) -> str:
        """Why a probability is NaN, and what to do."""
        network = self._model.network
        name = nonfinite_weight(network)
        if name is not None:
            return f"The weight {name} of {self.folder} holds NaN or infinity. Download or save the model again."
        return (
            "Use another model." if network.dtype == torch.float32 else "Set prior.dtype=float32, or use another prior."
        )

    def score(
        self, rows: Iterable[NDArray[np.int32]], flag: TokenFlagger | None = None, sample: TokenSampler | None = None
    ) -> Iterator[ScoredDocument]:
        """The scores of each document, in order. Without `flag` nothing is flagged; with it `sample` is required.

        Raises:
            InputError: a token id that the model cannot read.
        """
        return score_rows(self._model, rows, flag, sample, batch_tokens=self._prior.batch_tokens, window=self.window)


def _window_of(prior: Prior, positions: int | None) -> int:
    if prior.window is None:
        return min(prior.batch_tokens, positions or prior.batch_tokens)
    if positions is not None and prior.window > positions:
        raise ConfigError(f"prior.window: {prior.window}, but the model has {positions} positions. Lower it to them.")
    if prior.window > prior.batch_tokens:
        raise ConfigError(
            f"prior.window: {prior.window} is above prior.batch_tokens {prior.batch_tokens}. Lower the window."
        )
    return prior.window
