"""Some documents scored together: their windows in batches, the flagged positions of each drawn once it is judged.

Rule: a hidden state is kept until its document is judged or, beyond a fixed budget, computed again with the same batch,
which gives the same bytes; so memory is bounded and no budget can change a result.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailkeep.errors import InputError
from tailkeep.scoring.halves import Halves
from tailkeep.scoring.protocol import Draw, Judge, Scored
from tailkeep.scoring.windows import Window, batches_of, windows_of

# Bytes of hidden states that wait for the rest of their documents.
_WAITING = 1 << 28


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
        self._new_ids = np.zeros(len(self._tokens), np.int32)
        self._new_log_probs = np.zeros(len(self._tokens), np.float32)
        # Where each scored token is: the number of its batch and its place among the batch's scored tokens.
        self._batch_of = np.full(len(self._tokens), -1, np.int64)
        self._place_of = np.zeros(len(self._tokens), np.int64)
        for number, batch in enumerate(self._batches):
            scored = self._scored(batch)
            self._batch_of[scored], self._place_of[scored] = number, np.arange(len(scored))

    def score(self, judge: Judge | None, draw: Draw | None) -> list[Scored]:
        """See `Scorer.score`."""
        flagged = [np.zeros(0, np.int64)] * (len(self._bounds) - 1)
        unread = Counter(window.row for batch in self._batches for window in batch)
        unjudged = [len({window.row for window in batch}) for batch in self._batches]
        waiting: dict[int, Tensor] = {}
        asked: dict[int, list[NDArray[np.int64]]] = defaultdict(list)
        for number, batch in enumerate(self._batches):
            waiting[number] = self._read(batch)
            unread.subtract(window.row for window in batch)
            for row in sorted({window.row for window in batch if unread[window.row] == 0}):
                if judge is not None:
                    flagged[row] = self._judge(judge, row)
                    for part in self._by_batch(flagged[row]):
                        asked[int(self._batch_of[part[0]])].append(part)
                for touched in self._numbers(row):
                    unjudged[touched] -= 1
            for ready in sorted(asked.keys() & waiting.keys()):
                self._draw(draw, waiting[ready], np.concatenate(asked.pop(ready)))
            for done in [held for held in waiting if unjudged[held] == 0]:
                del waiting[done]
            if sum(hidden.nbytes for hidden in waiting.values()) > _WAITING:
                waiting.pop(number, None)
        for number in sorted(asked):
            self._draw(draw, self._hidden(self._batches[number]), np.concatenate(asked[number]))
        return [self._result(row, positions) for row, positions in enumerate(flagged)]

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

    def _numbers(self, row: int) -> list[int]:
        found = np.unique(self._batch_of[self._bounds[row] : self._bounds[row + 1]])
        return [int(number) for number in found if number >= 0]

    def _by_batch(self, places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        numbers = self._batch_of[places]
        return [places[numbers == number] for number in np.unique(numbers)]

    def _hidden(self, batch: Sequence[Window]) -> Tensor:
        """The hidden states (N, D) from which the batch's scored tokens are predicted."""
        width = max(window.width for window in batch)
        ids = np.full((len(batch), width), self._pad, np.int64)
        for place, w in enumerate(batch):
            ids[place, : w.width] = self._tokens[self._bounds[w.row] + w.start : self._bounds[w.row] + w.stop]
        before = [place * width + np.arange(w.first - 1, w.stop - 1) - w.start for place, w in enumerate(batch)]
        hidden = self._model.hidden(self._to(ids))
        return hidden.flatten(0, 1)[self._to(np.concatenate(before))]

    def _read(self, batch: Sequence[Window]) -> Tensor:
        hidden, scored = self._hidden(batch), self._scored(batch)
        self._log_probs[scored] = self._model.log_probs(hidden, self._to(self._tokens[scored])).cpu().numpy()
        return hidden

    def _judge(self, judge: Judge, row: int) -> NDArray[np.int64]:
        """The flat places that are to be drawn."""
        start, stop = self._bounds[row], self._bounds[row + 1]
        positions = np.asarray(judge(self._offset + row, self._log_probs[start:stop]), np.int64)
        places: NDArray[np.int64] = start + positions
        assert ((places > start) & (places < stop)).all(), "judge flags positions that are scored"
        assert (np.diff(positions) > 0).all(), "judge flags positions in ascending order"
        return places

    def _draw(self, draw: Draw | None, hidden: Tensor, places: NDArray[np.int64]) -> None:
        assert draw is not None, "what is flagged needs a draw"
        for start in range(0, len(places), self._model.chunk):
            part = places[start : start + self._model.chunk]
            documents = self._documents[part]
            rows = self._model.distributions(hidden[self._to(self._place_of[part])])
            positions = part - self._bounds[documents - self._offset]
            ids, log_probs = draw(documents, positions, rows, self._to(self._tokens[part]))
            self._new_ids[part] = ids.cpu().numpy()
            self._new_log_probs[part] = log_probs.float().cpu().numpy()

    def _result(self, row: int, places: NDArray[np.int64]) -> Scored:
        start, stop = self._bounds[row], self._bounds[row + 1]
        return Scored(
            self._log_probs[start:stop].copy(), places - start, self._new_ids[places], self._new_log_probs[places]
        )

    def _to(self, values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(self._model.device)
