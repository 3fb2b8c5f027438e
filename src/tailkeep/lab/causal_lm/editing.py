"""Documents edited by a model in memory: scored in one pass, judged on the original text before each token, drawn.

Rule: only tokens with a text of their own are flagged or drawn, so special tokens and boundaries stay; what becomes of
a token is a function of the model, the text and (seed, document number, position).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailkeep.errors import TrainingError
from tailkeep.lab.causal_lm.codec import Ids
from tailkeep.lab.causal_lm.edits import Counts, Edits
from tailkeep.lab.causal_lm.tokens import Tokens
from tailkeep.rules import Action, Rule, Sampler, judge, uniforms
from tailkeep.rules.drawing import draw
from tailkeep.scoring import Judge, Scored
from tailkeep.scoring.halves import Halves
from tailkeep.scoring.log_probs import score_rows

_BATCH_TOKENS = 16_384


def edit_tokens(network: Any, data: Tokens, *, rule: Rule, sampler: Sampler, seed: int) -> Tokens:
    """`data` with some tokens drawn anew or deleted, document by document.

    Args:
        network: a Hugging Face causal language model; it is left in the mode it was in.

    Returns:
        The edited documents with their `edits`; those of `data` itself are counted in.

    Raises:
        InputError: the tokenizer does not tell what its tokens read as, or the model cannot be taken apart.
        TrainingError: a probability is not a number, or nothing is left to train on.
    """
    editor = Editor(data, Halves(network), Choice(rule, sampler, seed))
    return editor.edited(editor.scored())


@dataclass(frozen=True)
class Choice:
    """What is drawn anew and how; `at_random`: as many tokens as the rule flags, but any."""

    rule: Rule
    sampler: Sampler
    seed: int
    at_random: bool = False


class Editor:
    """The judge and the draw of one edit, and what they come to; its arrays are flat, as `data.ids` is.

    Args:
        within: (T,) which tokens may be edited, of those that can be; all if not given.
    """

    def __init__(self, data: Tokens, model: Halves, choice: Choice, *, within: NDArray[np.bool_] | None = None) -> None:
        self._data, self._model, self._choice = data, model, choice
        allowed = data.codec.surfaces.allowed(model.vocab_size)
        self._drawable = torch.from_numpy(allowed)
        self._starts = np.cumsum(data.lengths) - data.lengths
        # Which tokens the model judges and an edit may touch.
        self._editable = allowed[data.ids] if within is None else allowed[data.ids] & within
        self._editable[self._starts[data.lengths > 0]] = False
        self._actions = np.full(len(data.ids), Action.KEEP, np.int8)
        self._chosen: NDArray[np.bool_] | None = None
        self._coins = self._uniforms("judge") if choice.rule.name == "random" else None
        self._chances = np.stack([self._uniforms(f"draw {number}") for number in range(choice.sampler.tries)], axis=1)

    def scored(self) -> list[Scored]:
        """Each document's scores, and what was drawn at its flagged tokens."""
        if self._choice.at_random:
            self._score(lambda *at: self.judge(*at) & False)
            flagged = int((self._actions == Action.RESAMPLE).sum())
            self._chosen = places_at_random(self._editable, self._uniforms("place"), flagged)
        return self._score(self.judge)

    def _score(self, judge: Judge) -> list[Scored]:
        window = min(self._model.positions or _BATCH_TOKENS, _BATCH_TOKENS)
        limits = {"batch_tokens": _BATCH_TOKENS, "window": window, "pad": self._data.codec.pad}
        return list(score_rows(self._model, self._data.documents, judge, self.draw, **limits))

    def judge(
        self, documents: NDArray[np.int64], positions: NDArray[np.int64], log_probs: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """See `scoring.Judge`."""
        if np.isnan(log_probs).any():
            raise TrainingError(
                "the model gives a token a probability that is not a number, so nothing can be edited. "
                "Lower training.learning_rate."
            )
        at = self._starts[documents] + positions
        if self._chosen is not None:
            found = np.where(self._chosen[at], Action.RESAMPLE, Action.KEEP)
        else:
            found = judge(log_probs, self._choice.rule, uniforms=None if self._coins is None else self._coins[at])
        self._actions[at] = np.where(self._editable[at], found, Action.KEEP)
        resampled: NDArray[np.bool_] = self._actions[at] == Action.RESAMPLE
        return resampled

    def draw(
        self, documents: NDArray[np.int64], positions: NDArray[np.int64], rows: Tensor, originals: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `scoring.Draw`."""
        own = torch.from_numpy(self._chances[self._starts[documents] + positions]).to(rows.device)
        return draw(rows, originals, own, self._choice.sampler, allowed=self._drawable.to(rows.device))

    def changes(self, scored: Sequence[Scored]) -> list[dict[int, int | None]]:
        """Of each document, the new id at each position that is to change, None where the rule deletes the token."""
        wanted = []
        for document, start, found in zip(self._data.documents, self._starts, scored, strict=True):
            actions = self._actions[start : start + len(document)]
            drawn = zip(found.positions.tolist(), found.ids.tolist(), strict=True)
            deleted: dict[int, int | None] = dict.fromkeys(np.flatnonzero(actions == Action.DELETE).tolist())
            wanted.append(deleted | {at: new for at, new in drawn if new != document[at]})
        return wanted

    @property
    def judged(self) -> int:
        """How many tokens an edit may touch."""
        return int(self._editable.sum())

    def edited(self, scored: Sequence[Scored]) -> Tokens:
        """The data with what was drawn and without what was deleted."""
        data = self._data
        ids, kept = data.ids.copy(), self._actions != Action.DELETE
        for start, found in zip(self._starts, scored, strict=True):
            ids[start + found.positions] = found.ids
        lengths = np.array([part.sum() for part in np.split(kept, self._starts[1:])], np.int64)
        if not (lengths > 1).any():
            raise TrainingError(
                "the edit leaves no document with more than its first token. Lower the threshold of what is deleted."
            )
        flagged = sum(len(found.positions) for found in scored)
        edits = _edits(data, ids, kept, judged=self.judged, flagged=flagged)
        return Tokens(ids[kept], lengths, np.zeros(len(data), np.int64), data.codec, edits)

    def _uniforms(self, stream: str) -> NDArray[np.float64]:
        rows = [uniforms(self._choice.seed, str(number), int(n), stream) for number, n in enumerate(self._data.lengths)]
        return np.concatenate(rows)


def places_at_random(editable: NDArray[np.bool_], uniforms: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """(T,) the `count` of the `editable` tokens with the smallest numbers; the first of equal ones."""
    chosen = np.zeros(len(editable), np.bool_)
    chosen[np.argsort(np.where(editable, uniforms, np.inf), kind="stable")[:count]] = True
    return chosen


def _edits(data: Tokens, ids: Ids, kept: NDArray[np.bool_], *, judged: int, flagged: int) -> Edits:
    """What is told of an edit that makes `ids` of those of `data`, as far as they are `kept`."""
    before, pristine, gone = data.ids, judged, 0
    if data.edits is not None:
        assert data.edits.pristine is not None, "the regimes that edit never begin with an outside model's text"
        before, pristine = data.edits.pristine, data.edits.counts.pristine
        gone = data.edits.counts.lost - int((before != data.ids).sum())
    deleted = int((~kept).sum())
    counts = Counts(
        pristine=pristine,
        judged=judged,
        flagged=flagged,
        changed=int((ids != data.ids).sum()),
        deleted=deleted,
        lost=gone + deleted + int((before != ids)[kept].sum()),
    )
    return Edits(before[kept], counts)
