"""Documents edited by a model in memory: scored in one pass, judged on the original text before each token, drawn.

Rule: only tokens with a text of their own are flagged or drawn, so special tokens and boundaries stay; what becomes of
a token is a function of the model, the text and (seed, document number, position).
"""

from collections.abc import Sequence
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
from tailkeep.scoring import Scored
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
    model = Halves(network)
    editor = _Editor(data.documents, data.codec.surfaces.allowed(model.vocab_size), rule, sampler, seed)
    window = min(model.positions or _BATCH_TOKENS, _BATCH_TOKENS)
    scored = score_rows(
        model, data.documents, editor.judge, editor.draw, batch_tokens=_BATCH_TOKENS, window=window, pad=data.codec.pad
    )
    return editor.edited(data, list(scored))


class _Editor:
    """The judge and the draw of one edit, and what they come to."""

    def __init__(
        self, documents: Sequence[Ids], allowed: NDArray[np.bool_], rule: Rule, sampler: Sampler, seed: int
    ) -> None:
        self._documents, self._allowed, self._drawable = documents, allowed, torch.from_numpy(allowed)
        self._rule, self._sampler, self._seed = rule, sampler, seed
        self._deleted: dict[int, NDArray[np.int64]] = {}

    def judge(self, number: int, log_probs: NDArray[np.float32]) -> NDArray[np.int64]:
        """See `scoring.Judge`."""
        if np.isnan(log_probs[1:]).any():
            raise TrainingError(
                "the model gives a token a probability that is not a number, so nothing can be edited. "
                "Lower training.learning_rate."
            )
        chances = None
        if self._rule.name == "random":
            chances = uniforms(self._seed, str(number), len(log_probs), "judge")
        actions = judge(log_probs, self._rule, uniforms=chances)
        actions[~self._editable(self._documents[number])] = Action.KEEP
        self._deleted[number] = np.flatnonzero(actions == Action.DELETE)
        return np.flatnonzero(actions == Action.RESAMPLE)

    def draw(
        self, documents: NDArray[np.int64], positions: NDArray[np.int64], rows: Tensor, originals: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `scoring.Draw`."""
        chances = np.empty((len(positions), self._sampler.tries))
        for document in np.unique(documents):
            here = documents == document
            places = positions[here]
            for number in range(self._sampler.tries):
                row = uniforms(self._seed, str(document), int(places.max()) + 1, f"draw {number}")
                chances[here, number] = row[places]
        own = torch.from_numpy(chances).to(rows.device)
        return draw(rows, originals, own, self._sampler, allowed=self._drawable.to(rows.device))

    def edited(self, data: Tokens, scored: Sequence[Scored]) -> Tokens:
        """`data` with what was drawn and without what was deleted."""
        ids, kept = data.ids.copy(), np.ones(len(data.ids), np.bool_)
        starts = np.cumsum(data.lengths) - data.lengths
        for number, (start, found) in enumerate(zip(starts, scored, strict=True)):
            ids[start + found.positions] = found.ids
            kept[start + self._deleted.get(number, np.zeros(0, np.int64))] = False
        lengths = np.array([part.sum() for part in np.split(kept, starts[1:])], np.int64)
        if not (lengths > 1).any():
            raise TrainingError(
                "the edit leaves no document with more than its first token. Lower the threshold of what is deleted."
            )
        judged = sum(int(self._editable(document).sum()) for document in self._documents)
        flagged = sum(len(found.positions) for found in scored)
        edits = _edits(data, ids, kept, judged=judged, flagged=flagged)
        return Tokens(ids[kept], lengths, np.zeros(len(data), np.int64), data.codec, edits)

    def _editable(self, document: Ids) -> NDArray[np.bool_]:
        """(T,) which tokens the model has judged and an edit may touch."""
        return self._allowed[document] & (np.arange(len(document)) > 0)


def _edits(data: Tokens, ids: Ids, kept: NDArray[np.bool_], *, judged: int, flagged: int) -> Edits:
    """What is told of an edit that makes `ids` of those of `data`, as far as they are `kept`."""
    before, pristine, gone = data.ids, judged, 0
    if data.edits is not None:
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
