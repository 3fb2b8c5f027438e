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

from tailkeep.errors import TrainingError
from tailkeep.lab.causal_lm.codec import Ids
from tailkeep.lab.causal_lm.edits import Counts, Edits
from tailkeep.lab.causal_lm.tokens import Tokens
from tailkeep.rules import Action, Rule, Sampler, uniforms
from tailkeep.rules.deciding import Decisions
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
    """One edit of `data` by `model`, and what it comes to; its arrays are flat, as `data.ids` is.

    Args:
        within: (T,) which tokens may be edited, of those that can be; all if not given.
    """

    def __init__(self, data: Tokens, model: Halves, choice: Choice, *, within: NDArray[np.bool_] | None = None) -> None:
        self._data, self._model, self._choice = data, model, choice
        allowed = data.codec.surfaces.allowed(model.vocab_size)
        self._starts = np.cumsum(data.lengths) - data.lengths
        # Which tokens the model judges and an edit may touch.
        self._editable = allowed[data.ids] if within is None else allowed[data.ids] & within
        self._editable[self._starts[data.lengths > 0]] = False
        self._decisions = Decisions(
            choice.rule,
            choice.sampler,
            starts=self._starts,
            editable=self._editable,
            allowed=torch.from_numpy(allowed),
            stream=self._uniforms,
        )

    def scored(self) -> list[Scored]:
        """Each document's scores, and what was drawn at its flagged tokens."""
        if not self._choice.at_random:
            return self._score(self._flag)
        self._score(lambda *at: self._flag(*at) & False)
        flagged = int((self._decisions.actions == Action.RESAMPLE).sum())
        chosen = places_at_random(self._editable, self._uniforms("place"), flagged)
        return self._score(lambda documents, positions, _: chosen[self._starts[documents] + positions])

    def _score(self, judge: Judge) -> list[Scored]:
        window = min(self._model.positions or _BATCH_TOKENS, _BATCH_TOKENS)
        limits = {"batch_tokens": _BATCH_TOKENS, "window": window, "pad": self._data.codec.pad}
        return list(score_rows(self._model, self._data.documents, judge, self._decisions.draw, **limits))

    def _flag(
        self, documents: NDArray[np.int64], positions: NDArray[np.int64], log_probs: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        if np.isnan(log_probs).any():
            raise TrainingError(
                "the model gives a token a probability that is not a number, so nothing can be edited. "
                "Lower training.learning_rate."
            )
        return self._decisions.flag(documents, positions, log_probs)

    def changes(self, scored: Sequence[Scored]) -> list[dict[int, int | None]]:
        """Of each document, the new id at each position that is to change, None where the rule deletes the token."""
        wanted = []
        for document, start, found in zip(self._data.documents, self._starts, scored, strict=True):
            actions = self._decisions.actions[start : start + len(document)]
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
        ids, kept = data.ids.copy(), self._decisions.actions != Action.DELETE
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
