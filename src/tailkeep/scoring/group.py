"""Some documents scored together: their windows in batches, each token judged and drawn while its distribution exists.

Rule: batches and chunks are a function of the documents' lengths alone, so what a token is scored beside is one too.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailkeep.errors import InputError
from tailkeep.scoring.halves import Halves
from tailkeep.scoring.protocol import Draw, Judge, Scored
from tailkeep.scoring.windows import Window, batches_of, windows_of


class Group:
    """Documents `rows`, the first of which has the number `offset`; its tokens lie one after another in flat arrays."""

    def __init__(
        self,
        model: Halves,
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
        windows = [found for row, length in enumerate(lengths) for found in windows_of(row, length, window)]
        self._batches = batches_of(windows, batch_tokens)
        self._log_probs = np.full(len(self._tokens), np.nan, np.float32)
        self._flagged = np.zeros(len(self._tokens), np.bool_)
        self._new_ids = np.zeros(len(self._tokens), np.int32)
        self._new_log_probs = np.zeros(len(self._tokens), np.float32)

    def score(self, judge: Judge | None, draw: Draw | None) -> list[Scored]:
        """See `Scorer.score`."""
        for batch in self._batches:
            hidden, scored = self._hidden(batch), self._scored(batch)
            for start in range(0, len(scored), self._model.chunk):
                part = slice(start, start + self._model.chunk)
                self._read(hidden[part], scored[part], judge, draw)
        return [self._result(row) for row in range(len(self._bounds) - 1)]

    def _check_ids(self) -> None:
        if len(self._tokens) == 0:
            return
        low, high = int(self._tokens.min()), int(self._tokens.max())
        if low < 0 or high >= self._model.readable:
            wrong = low if low < 0 else high
            number = int(self._documents[self._tokens == wrong][0])
            raise InputError(
                f"document {number} has the token id {wrong}, and the model knows {self._model.readable} tokens. "
                "Give the tokenizer that belongs to the model."
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

    def _read(self, hidden: Tensor, places: NDArray[np.int64], judge: Judge | None, draw: Draw | None) -> None:
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

    def _result(self, row: int) -> Scored:
        start, stop = self._bounds[row], self._bounds[row + 1]
        positions = np.flatnonzero(self._flagged[start:stop])
        places = start + positions
        return Scored(self._log_probs[start:stop].copy(), positions, self._new_ids[places], self._new_log_probs[places])

    def _to(self, values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(self._model.device)
