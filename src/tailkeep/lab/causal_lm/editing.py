"""Documents edited by a model in memory: scored in one pass, judged on the original text before each token, drawn.

Rule: only tokens with a text of their own are flagged or drawn, so special tokens and boundaries stay; what becomes of
a token is a function of the model, the text and (seed, document number, position).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailkeep.data import TextRecord
from tailkeep.errors import InputError, TrainingError
from tailkeep.lab.causal_lm.data_config import ExternalEdit, ExternalText
from tailkeep.lab.causal_lm.generation import continue_prompts
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids, load_tokenizer
from tailkeep.lab.causal_lm.tokens import Edits, TokenData, TokenFates
from tailkeep.rules import Action, Rule, Sampler, TextTokenizer, splice, uniforms
from tailkeep.rules import TokenizedText as LocatedTokens
from tailkeep.rules.edit_plan import EditPlan
from tailkeep.scoring import ScoredDocument, TokenFlagger
from tailkeep.scoring.loading import load_network
from tailkeep.scoring.scorer import score_rows
from tailkeep.scoring.split_model import SplitModel

_BATCH_TOKENS = 16_384


def edit_tokens(network: Any, data: TokenData, *, rule: Rule, sampler: Sampler, seed: int) -> TokenData:
    """`data` with some tokens drawn anew or deleted, document by document.

    Args:
        network: a Hugging Face causal language model; it is left in the mode it was in.

    Returns:
        The edited documents with their `edits`; those of `data` itself are counted in.

    Raises:
        InputError: the tokenizer does not tell what its tokens read as, or the model cannot be taken apart.
        TrainingError: a probability is not a number, or nothing is left to train on.
    """
    editor = TokenEditor(data, SplitModel(network), EditChoice(rule, sampler, seed))
    return editor.edited(editor.scored())


@dataclass(frozen=True)
class EditChoice:
    """What is drawn anew and how; `at_random`: as many tokens as the rule flags, but any."""

    rule: Rule
    sampler: Sampler
    seed: int
    at_random: bool = False


class TokenEditor:
    """One edit of `data` by `model`, and what it comes to; its arrays are flat, as `data.ids` is.

    Args:
        within: (T,) which tokens may be edited, of those that can be; all if not given.
    """

    def __init__(
        self, data: TokenData, model: SplitModel, choice: EditChoice, *, within: NDArray[np.bool_] | None = None
    ) -> None:
        self._data, self._model, self._choice = data, model, choice
        allowed = data.codec.surfaces.allowed(model.vocab_size)
        self._starts = np.cumsum(data.lengths) - data.lengths
        # Which tokens the model judges and an edit may touch.
        self._editable = allowed[data.ids] if within is None else allowed[data.ids] & within
        self._editable[self._starts[data.lengths > 0]] = False
        self._decisions = EditPlan(
            choice.rule,
            choice.sampler,
            starts=self._starts,
            editable=self._editable,
            allowed=torch.from_numpy(allowed),
            stream=self._uniforms,
        )

    def scored(self) -> list[ScoredDocument]:
        """Each document's scores, and what was drawn at its flagged tokens."""
        if not self._choice.at_random:
            return self._score(self._flag)
        self._score(lambda *at: self._flag(*at) & False)
        flagged = int((self._decisions.actions == Action.RESAMPLE).sum())
        chosen = places_at_random(self._editable, self._uniforms("place"), flagged)
        return self._score(lambda documents, positions, _: chosen[self._starts[documents] + positions])

    def _score(self, judge: TokenFlagger) -> list[ScoredDocument]:
        window = min(self._model.max_positions or _BATCH_TOKENS, _BATCH_TOKENS)
        limits = {"batch_tokens": _BATCH_TOKENS, "window": window, "pad": self._data.codec.pad}
        return list(score_rows(self._model, self._data.documents, judge, self._decisions.sample, **limits))

    def _flag(
        self, documents: NDArray[np.int64], positions: NDArray[np.int64], log_probs: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        if np.isnan(log_probs).any():
            raise TrainingError(
                "the model gives a token a probability that is not a number, so nothing can be edited. "
                "Lower training.learning_rate."
            )
        return self._decisions.flag(documents, positions, log_probs)

    def changes(self, scored: Sequence[ScoredDocument]) -> list[dict[int, int | None]]:
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

    def edited(self, scored: Sequence[ScoredDocument]) -> TokenData:
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
        return TokenData(ids[kept], lengths, np.zeros(len(data), np.int64), data.codec, edits)

    def _uniforms(self, stream: str) -> NDArray[np.float64]:
        rows = [uniforms(self._choice.seed, str(number), int(n), stream) for number, n in enumerate(self._data.lengths)]
        return np.concatenate(rows)


def places_at_random(editable: NDArray[np.bool_], uniforms: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """(T,) the `count` of the `editable` tokens with the smallest numbers; the first of equal ones."""
    chosen = np.zeros(len(editable), np.bool_)
    chosen[np.argsort(np.where(editable, uniforms, np.inf), kind="stable")[:count]] = True
    return chosen


def _edits(data: TokenData, ids: Ids, kept: NDArray[np.bool_], *, judged: int, flagged: int) -> Edits:
    """What is told of an edit that makes `ids` of those of `data`, as far as they are `kept`."""
    before, pristine, gone = data.ids, judged, 0
    if data.edits is not None:
        assert data.edits.pristine is not None, "the regimes that edit never begin with an outside model's text"
        before, pristine = data.edits.pristine, data.edits.counts.pristine
        gone = data.edits.counts.lost - int((before != data.ids).sum())
    deleted = int((~kept).sum())
    counts = TokenFates(
        pristine=pristine,
        judged=judged,
        flagged=flagged,
        changed=int((ids != data.ids).sum()),
        deleted=deleted,
        lost=gone + deleted + int((before != ids)[kept].sum()),
    )
    return Edits(before[kept], counts)


# Training documents as an outside model has edited or written them, from text to text through its own tokenizer.
#
# Rule: what becomes of a document is a function of the model, the document, the choices and (seed, document number); a
# prompt stays as it is, and what no edit has touched stays character by character.


_PIECE = 1024
"""Tokens written at once by a model that names no number of positions."""


@dataclass(frozen=True)
class ExternalWriter:
    """An outside model with its tokenizer both ways: to ids, and to ids with their places in a text."""

    model: SplitModel
    codec: DocumentTokenizer
    places: TextTokenizer


def load_external(folder: Path, *, device: str) -> ExternalWriter:
    """The model in `folder`.

    Raises:
        InputError: it or its tokenizer cannot be read, or they do not belong together.
    """
    codec = DocumentTokenizer(load_tokenizer(folder), append_eos=False)
    model = SplitModel(load_network(folder).to(device))
    # Refused here if the tokenizer does not tell what its tokens read as.
    known = len(codec.surfaces.texts)
    if known > model.num_readable_ids:
        raise InputError(
            f"data.prior.path: the tokenizer has {known} ids, the model reads {model.num_readable_ids}. "
            "Give a folder with the tokenizer that belongs to the model."
        )
    return ExternalWriter(model, codec, TextTokenizer(codec.tokenizer))


def first_text(
    outside: ExternalWriter,
    choice: ExternalEdit | ExternalText,
    records: Sequence[TextRecord],
    codec: DocumentTokenizer,
) -> Callable[[int], TokenData]:
    """A function of a seed: the tokens, in the trained model's `codec`, of what `outside` makes of `records`."""

    def first(seed: int) -> TokenData:
        if isinstance(choice, ExternalText):
            return TokenData.of_records(generate_records(outside, records, choice, seed=seed), codec)
        found, counts = edit_records(outside, records, choice, seed=seed)
        return replace(TokenData.of_records(found, codec), edits=Edits(None, counts))

    return first


def edit_records(
    outside: ExternalWriter, records: Sequence[TextRecord], edit: ExternalEdit, *, seed: int
) -> tuple[list[TextRecord], TokenFates]:
    """`records` with the tokens of their texts that the rule flags drawn anew, and what became of the tokens.

    A change that cannot be put into the text at the place of its token is refused, as in `tailkeep edit`, and is not
    counted as one.
    """
    wholes = outside.places([record.full_text for record in records])
    data = TokenData.of([whole.ids.astype(np.int32) for whole in wholes], outside.codec)
    inside = [_inside(record, whole) for record, whole in zip(records, wholes, strict=True)]
    choice = EditChoice(edit.rule, edit.sampler, seed, at_random=edit.control == "random")
    editor = TokenEditor(data, outside.model, choice, within=np.concatenate(inside))
    scored = editor.scored()
    found, changed, deleted = [], 0, 0
    for record, whole, changes in zip(records, wholes, editor.changes(scored), strict=True):
        protected = [(0, record.text_start)] if record.text_start else []
        spliced = splice(record.full_text, whole, changes, outside.codec.surfaces, protected=protected)
        found.append(replace(record, text=spliced.text[record.text_start :]))
        gone = sum(made.new_id is None for made in spliced.applied)
        deleted += gone
        changed += len(spliced.applied) - gone
    flagged = sum(len(one.positions) for one in scored)
    judged = editor.judged
    return found, TokenFates(
        pristine=judged, judged=judged, flagged=flagged, changed=changed, deleted=deleted, lost=changed + deleted
    )


def generate_records(
    outside: ExternalWriter, records: Sequence[TextRecord], choice: ExternalText, *, seed: int
) -> list[TextRecord]:
    """As many texts as `records`, each begun as the real one, or by its prompt, and of as many tokens; see
    `TextGap`."""
    pieces = [piece for n, record in enumerate(records) for piece in gaps_of(outside, n, record, choice)]
    # Of one length together, so that little is written that nobody needs.
    order = sorted(range(len(pieces)), key=lambda i: (pieces[i].missing, i))
    tails: list[Ids] = [np.zeros(0, np.int32)] * len(pieces)
    for number, first in enumerate(range(0, len(order), choice.batch)):
        chosen = order[first : first + choice.batch]
        longest = max(pieces[i].missing for i in chosen)
        if not longest:
            continue
        made = continue_prompts(
            outside.model.network,
            outside.codec,
            [pieces[i].start for i in chosen],
            decoder=choice.decoder,
            new_tokens=longest,
            stops=False,
            batch=choice.batch,
            seed=int(np.random.SeedSequence([seed, number]).generate_state(1)[0]),
        )
        for i, tail in zip(chosen, made, strict=True):
            tails[i] = tail[: pieces[i].missing]
    texts: list[list[Ids]] = [[] for _ in records]
    for piece, tail in zip(pieces, tails, strict=True):
        texts[piece.record] += [piece.kept, tail]
    return [
        replace(record, text=outside.codec.decode(np.concatenate(parts)).strip())
        for record, parts in zip(records, texts, strict=True)
    ]


@dataclass(frozen=True)
class TextGap:
    """A part of a record's text: `missing` tokens are to be written behind `start`, whose end `kept` is text too."""

    record: int
    start: Ids
    kept: Ids
    missing: int


def gaps_of(outside: ExternalWriter, number: int, record: TextRecord, choice: ExternalText) -> list[TextGap]:
    """The text of `record` cut to what the model writes at once; all pieces stand behind the prompt."""
    whole = outside.codec.encode_without_eos(record.full_text)
    given = outside.codec.given(record, whole) or int(outside.codec.start is not None)
    prompt, text = whole[:given], whole[given:]
    room = outside.model.max_positions or _PIECE
    # Of a prompt that leaves no room the end is what counts.
    prompt = prompt[-(room // 2) :]
    size = room - len(prompt)
    found = []
    for first in range(0, len(text), size):
        part = text[first : first + size]
        # A model is never asked behind nothing.
        cut = min(len(part), max(choice.prompt_tokens, int(not len(prompt))))
        found.append(TextGap(number, np.concatenate([prompt, part[:cut]]), part[:cut], len(part) - cut))
    return found


def _inside(record: TextRecord, whole: LocatedTokens) -> NDArray[np.bool_]:
    """(T,) which tokens stand, whole, in the text of `record`."""
    starts, ends = whole.offsets.reshape(-1, 2).T
    inside: NDArray[np.bool_] = (starts >= record.text_start) & (ends > starts)
    return inside
