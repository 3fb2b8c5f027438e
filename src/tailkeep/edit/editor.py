"""The edit of documents: scored, judged, drawn, spliced.

Rule: what becomes of a document is a function of (document, prior, rule, seed) and of the documents scored beside it,
which a shard alone decides.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray

from tailkeep.data.corpus import Content, Record, TextField
from tailkeep.edit.config import EditConfig
from tailkeep.edit.prior import EditPrior
from tailkeep.errors import InputError
from tailkeep.rules import (
    Action,
    Detokenizer,
    Edit,
    TextTokenizer,
    TokenizedText,
    apply_edits,
    protected_spans,
    splice,
    uniforms,
)
from tailkeep.rules.edit_plan import EditPlan
from tailkeep.scoring import ScoredDocument

# Documents as rows of tokens for the prior; those that are token ids already are spelled as text.
#
# Rule: all strings of a document make one text, prompts before what they prompt, so that every token is judged on the
# whole document before it; which characters may be edited is known of each token.


BETWEEN = "\n"
"""What stands between two strings of a document; it is never edited and never written."""

# A group is read, scored and written together: enough for batches without much padding, few enough for any memory.
_CHARACTERS = 1 << 20
_PER_TOKEN = 4
_DOCUMENTS = 1 << 14


@dataclass(frozen=True)
class TextPiece:
    """An editable part, which begins at character `start` of the document's text, and the positions of its tokens."""

    part: TextField
    start: int
    positions: NDArray[np.int64]


@dataclass(frozen=True)
class PreparedDocument:
    """A document with its tokens; `editable` (T,) tells which stand, whole, in an editable part."""

    record: Record
    tokens: TokenizedText
    pieces: tuple[TextPiece, ...]
    editable: NDArray[np.bool_]


def groups_of(
    records: Iterable[Record], tokenizer: TextTokenizer, detokenize: Detokenizer
) -> Iterator[list[PreparedDocument]]:
    """Consecutive documents that are worked on together; how they are cut depends on the documents alone."""
    group: list[Record] = []
    characters = 0
    for record in records:
        group.append(record)
        characters += sum(len(part.text) + _PER_TOKEN * len(part.ids or ()) for part in record.parts)
        if characters >= _CHARACTERS or len(group) >= _DOCUMENTS:
            yield _prepare_any(group, tokenizer, detokenize)
            group, characters = [], 0
    if group:
        yield _prepare_any(group, tokenizer, detokenize)


def _prepare_any(records: list[Record], tokenizer: TextTokenizer, detokenize: Detokenizer) -> list[PreparedDocument]:
    return prepare_ids(records, detokenize) if records[0].tokens else prepare(records, tokenizer)


def prepare(records: list[Record], tokenizer: TextTokenizer) -> list[PreparedDocument]:
    """Each of `records` with its tokens."""
    texts = [BETWEEN.join(part.text for part in record.parts) for record in records]
    return [_prepared(record, tokens) for record, tokens in zip(records, tokenizer(texts), strict=True)]


def prepare_ids(records: list[Record], detokenize: Detokenizer) -> list[PreparedDocument]:
    """Each of `records`, which hold one list of token ids, with these as its tokens."""
    decoded = zip(records, detokenize([np.array(record.parts[0].ids, np.int32) for record in records]), strict=True)
    return [
        _prepared(replace(record, parts=(replace(record.parts[0], text=text),)), tokens)
        for record, (text, tokens) in decoded
    ]


def _prepared(record: Record, tokens: TokenizedText) -> PreparedDocument:
    starts, ends = tokens.offsets.reshape(-1, 2).T
    editable = np.zeros(len(tokens.ids), np.bool_)
    pieces = []
    start = 0
    for part in record.parts:
        if part.editable:
            inside = (starts >= start) & (ends <= start + len(part.text)) & (ends > starts)
            editable |= inside
            pieces.append(TextPiece(part, start, np.flatnonzero(inside)))
        start += len(part.text) + len(BETWEEN)
    return PreparedDocument(record, tokens, tuple(pieces), editable)


@dataclass(frozen=True)
class TokenChange:
    """An edit of one string: its path, the token's position in the document, and ln p of what is drawn."""

    path: str
    position: int
    edit: Edit
    new_log_prob: float | None


@dataclass(frozen=True)
class EditedDocument:
    """A document after its edit.

    Attributes:
        log_probs: (T,) of the original tokens, in nats.
        flagged: (F,) positions that were resampled, of which most stay what they were.
        deleted: positions that the rule deletes.
        changes: what was changed, in order.
        refused: how many changes were refused, by reason.
    """

    prepared: PreparedDocument
    log_probs: NDArray[np.float32]
    flagged: NDArray[np.int64]
    deleted: NDArray[np.int64]
    changes: tuple[TokenChange, ...]
    refused: Mapping[str, int]

    @cached_property
    def texts(self) -> dict[str, str]:
        """The document's editable strings by path; none if it is token ids."""
        texts = self.prepared.record.texts
        for path in texts.keys() & {change.path for change in self.changes}:
            texts[path] = apply_edits(texts[path], (change.edit for change in self.changes if change.path == path))
        return texts

    @property
    def contents(self) -> dict[str, Content]:
        """The document's editable strings by path, or its token ids."""
        tokens = self.prepared.record.tokens
        return {tokens.path: tuple(self.ids.tolist())} if tokens else {**self.texts}

    @property
    def ids(self) -> NDArray[np.int32]:
        """The document's tokens with the changes, among them those of prompts and those put around the text."""
        ids = self.prepared.tokens.ids.astype(np.int32)
        for change in self.changes:
            if change.edit.new_id is not None:
                ids[change.position] = change.edit.new_id
        return np.delete(ids, [change.position for change in self.changes if change.edit.new_id is None])

    def keeping(self, changes: Sequence[TokenChange], reason: str) -> "EditedDocument":
        """The same with these changes only; the others are refused for `reason`."""
        refused = Counter(self.refused)
        refused[reason] += len(self.changes) - len(changes)
        return replace(self, changes=tuple(changes), refused=refused)


class DocumentEditor:
    """Edits groups of documents. `barred` are characters that no drawn token may hold."""

    def __init__(self, model: EditPrior, config: EditConfig, *, barred: str = "") -> None:
        self._model, self._config = model, config
        self._allowed = torch.from_numpy(model.surfaces.allowed(model.scorer.vocab_size, without=barred))

    def edit(self, group: Sequence[PreparedDocument]) -> Iterator[EditedDocument]:
        """Each document of `group` after its edit, in order.

        Raises:
            InputError: the prior gives no probability for a token.
        """
        lengths = [len(prepared.tokens.ids) for prepared in group]
        starts = np.cumsum([0, *lengths[:-1]])
        decisions = EditPlan(
            self._config.rule,
            self._config.sampler,
            starts=starts,
            editable=np.concatenate([prepared.editable for prepared in group]),
            allowed=self._allowed,
            stream=partial(self._uniforms, group),
        )
        scores = self._model.scorer.score(
            [prepared.tokens.ids.astype(np.int32, copy=False) for prepared in group], decisions.flag, decisions.sample
        )
        for prepared, scored, start, length in zip(group, scores, starts, lengths, strict=True):
            self._check(prepared, scored)
            deleted = np.flatnonzero(decisions.actions[start : start + length] == Action.DELETE)
            yield self._spliced(prepared, scored, deleted)

    def _uniforms(self, group: Sequence[PreparedDocument], stream: str) -> NDArray[np.float64]:
        seed = self._config.seed
        return np.concatenate([uniforms(seed, it.record.id, len(it.tokens.ids), stream) for it in group])

    @staticmethod
    def _check(prepared: PreparedDocument, scored: ScoredDocument) -> None:
        if np.isnan(scored.log_probs[1:]).any():
            raise InputError(
                f"{prepared.record.where}: the prior's probability of a token is not a number. "
                "Set prior.dtype=float32, or give another prior."
            )

    def _spliced(
        self, prepared: PreparedDocument, scored: ScoredDocument, deleted: NDArray[np.int64]
    ) -> EditedDocument:
        originals = prepared.tokens.ids[scored.positions]
        other = scored.ids != originals
        new_ids: dict[int, int | None] = dict.fromkeys(deleted.tolist())
        new_ids.update(zip(scored.positions[other].tolist(), scored.ids[other].tolist(), strict=True))
        new_log_probs = zip(scored.positions.tolist(), scored.new_log_probs.tolist(), strict=True)
        log_probs = dict(new_log_probs) if new_ids else {}
        changes: list[TokenChange] = []
        refused: Counter[str] = Counter()
        for piece in prepared.pieces if new_ids else ():
            spliced = self._splice(prepared, piece, new_ids)
            if spliced is not None:
                edits, reasons = spliced
                changes += [
                    TokenChange(piece.part.path, position, edit, None if edit.new_id is None else log_probs[position])
                    for position, edit in edits
                ]
                refused += reasons
        return EditedDocument(prepared, scored.log_probs, scored.positions, deleted, tuple(changes), refused)

    def _splice(
        self, prepared: PreparedDocument, piece: TextPiece, new_ids: Mapping[int, int | None]
    ) -> tuple[list[tuple[int, Edit]], Counter[str]] | None:
        """The edits of one part with the positions of their tokens, and the reasons of those refused."""
        positions = piece.positions
        inside = {place: new_ids[at] for place, at in enumerate(positions.tolist()) if at in new_ids}
        if not inside:
            return None
        tokens = TokenizedText(prepared.tokens.ids[positions], prepared.tokens.offsets[positions] - piece.start)
        protection = self._config.protection
        protected = protected_spans(piece.part.text, protection, literals=self._model.literals)
        spliced = splice(
            piece.part.text, tokens, inside, self._model.surfaces, protected=protected, guard=protection.guard
        )
        edits = [(int(positions[edit.position]), edit) for edit in spliced.applied]
        return edits, Counter({str(reason): count for reason, count in spliced.reasons.items()})
