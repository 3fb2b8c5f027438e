"""Editing documents: tokenize, score, sample, splice.

The strings of a document are joined to one text, prompts before their answers, so that each token is scored on the
whole document before it.

Rule: an edited document is a function of (document, prior, rule, seed) and of the group in which it is scored, and the
groups are a function of the shard, or of the bundle of small files.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailkeep.data.corpus import Content, Record, TextField
from tailkeep.edit.config import EditConfig
from tailkeep.errors import InputError
from tailkeep.rules import (
    Action,
    Detokenizer,
    Edit,
    TextTokenizer,
    TokenizedText,
    TokenTexts,
    apply_edits,
    position_uniforms,
    protected_spans,
    read_token_texts,
    splice,
)
from tailkeep.rules.sampler import EditPlan
from tailkeep.runs.progress import LoopProgress
from tailkeep.scoring import CausalLMScorer, Prior, ScoredDocument
from tailkeep.scoring.loading import load_tokenizer


@dataclass(frozen=True)
class EditPrior:
    """A scorer, its tokenizer and detokenizer, the texts of its tokens, and the strings of its added tokens."""

    scorer: CausalLMScorer
    tokenizer: TextTokenizer
    detokenize: Detokenizer
    token_texts: TokenTexts
    literals: tuple[str, ...]

    def identity(self) -> dict[str, Any]:
        """All that can change a score or a token, as plain values for a fingerprint."""
        return {"prior": self.scorer.identity(), "tokenizer": self.token_texts.fingerprint}


def load_model(prior: Prior) -> EditPrior:
    """Load `prior` and its tokenizer.

    Raises:
        InputError: one cannot be found or read, or they do not match.
        ConfigError: the device does not exist.
    """
    scorer = CausalLMScorer(prior)
    tokenizer = load_tokenizer(scorer.folder, trust_remote_code=prior.trust_remote_code)
    token_texts = read_token_texts(tokenizer)
    if len(token_texts.texts) > scorer.vocab_size:
        raise InputError(
            f"prior.path: the tokenizer has {len(token_texts.texts)} ids, the model's embedding {scorer.vocab_size}. "
            "Give a folder with the tokenizer of the model."
        )
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    literals = tuple(sorted(token.content for token in added))
    return EditPrior(scorer, TextTokenizer(tokenizer), Detokenizer(tokenizer, token_texts), token_texts, literals)


BETWEEN = "\n"
"""The separator of two strings of a document. It is never edited and never written."""

# The limits of a group, which is read, scored and written together: enough for batches with little padding.
_CHARACTERS = 1 << 20
_PER_TOKEN = 4
_DOCUMENTS = 1 << 14


@dataclass(frozen=True)
class EditableField:
    """An editable field, the character of the document's text at which it starts, and the positions of its tokens."""

    source: TextField
    start: int
    positions: NDArray[np.int64]


@dataclass(frozen=True)
class PreparedDocument:
    """A document with its tokens; `editable` (T,) is the mask of tokens that are completely in an editable field."""

    record: Record
    tokens: TokenizedText
    editable_fields: tuple[EditableField, ...]
    editable: NDArray[np.bool_]


def group_documents(
    records: Iterable[Record], tokenizer: TextTokenizer, detokenize: Detokenizer
) -> Iterator[list[PreparedDocument]]:
    """Groups of consecutive documents; the grouping depends on the documents alone."""
    group: list[Record] = []
    characters = 0
    for record in records:
        group.append(record)
        characters += sum(len(field.text) + _PER_TOKEN * len(field.ids or ()) for field in record.fields)
        if characters >= _CHARACTERS or len(group) >= _DOCUMENTS:
            yield _prepare_group(group, tokenizer, detokenize)
            group, characters = [], 0
    if group:
        yield _prepare_group(group, tokenizer, detokenize)


def _prepare_group(records: list[Record], tokenizer: TextTokenizer, detokenize: Detokenizer) -> list[PreparedDocument]:
    return prepare_ids(records, detokenize) if records[0].tokens else prepare(records, tokenizer)


def prepare(records: list[Record], tokenizer: TextTokenizer) -> list[PreparedDocument]:
    """Tokenize each of `records`."""
    texts = [BETWEEN.join(field.text for field in record.fields) for record in records]
    return [_prepare_one(record, tokens) for record, tokens in zip(records, tokenizer(texts), strict=True)]


def prepare_ids(records: list[Record], detokenize: Detokenizer) -> list[PreparedDocument]:
    """Decode each of `records`, documents of token ids, keeping these ids as its tokens."""
    decoded = zip(records, detokenize([np.array(record.fields[0].ids, np.int32) for record in records]), strict=True)
    return [
        _prepare_one(replace(record, fields=(replace(record.fields[0], text=text),)), tokens)
        for record, (text, tokens) in decoded
    ]


def _prepare_one(record: Record, tokens: TokenizedText) -> PreparedDocument:
    starts, ends = tokens.offsets.reshape(-1, 2).T
    editable = np.zeros(len(tokens.ids), np.bool_)
    editable_fields = []
    start = 0
    for field in record.fields:
        if field.editable:
            inside = (starts >= start) & (ends <= start + len(field.text)) & (ends > starts)
            editable |= inside
            editable_fields.append(EditableField(field, start, np.flatnonzero(inside)))
        start += len(field.text) + len(BETWEEN)
    return PreparedDocument(record, tokens, tuple(editable_fields), editable)


@dataclass(frozen=True)
class TokenChange:
    """An edit of one string: its path, the position of the token in the document, and ln p of the new token."""

    path: str
    position: int
    edit: Edit
    new_log_prob: float | None


@dataclass(frozen=True)
class EditedDocument:
    """A document after its edit.

    Attributes:
        log_probs: (T,) of the original tokens, in nats.
        flagged: (F,) positions that were resampled; most get the same token again.
        deleted: positions that the rule deletes.
        changes: the changed tokens, in order.
        refused: the number of refused changes, by reason.
    """

    prepared: PreparedDocument
    log_probs: NDArray[np.float32]
    flagged: NDArray[np.int64]
    deleted: NDArray[np.int64]
    changes: tuple[TokenChange, ...]
    refused: Mapping[str, int]

    @cached_property
    def texts(self) -> dict[str, str]:
        """The edited strings by path; none if the document is token ids."""
        texts = self.prepared.record.texts
        for path in texts.keys() & {change.path for change in self.changes}:
            texts[path] = apply_edits(texts[path], (change.edit for change in self.changes if change.path == path))
        return texts

    @property
    def contents(self) -> dict[str, Content]:
        """The edited strings by path, or the edited token ids."""
        tokens = self.prepared.record.tokens
        return {tokens.path: tuple(self.ids.tolist())} if tokens else {**self.texts}

    @property
    def ids(self) -> NDArray[np.int32]:
        """All token ids after the changes, including those of prompts and the special tokens around the text."""
        ids = self.prepared.tokens.ids.astype(np.int32)
        for change in self.changes:
            if change.edit.new_id is not None:
                ids[change.position] = change.edit.new_id
        return np.delete(ids, [change.position for change in self.changes if change.edit.new_id is None])

    def restrict_to(self, changes: Sequence[TokenChange], reason: str) -> "EditedDocument":
        """The document with these changes only; the others are refused for `reason`."""
        refused = Counter(self.refused)
        refused[reason] += len(self.changes) - len(changes)
        return replace(self, changes=tuple(changes), refused=refused)


class DocumentEditor:
    """Edits groups of documents. No sampled token may contain a character of `excluded_characters`."""

    def __init__(self, model: EditPrior, config: EditConfig, *, excluded_characters: str = "") -> None:
        self._model, self._config = model, config
        self._allowed = torch.from_numpy(
            model.token_texts.allowed(model.scorer.vocab_size, without=excluded_characters)
        )

    def edit(self, group: Sequence[PreparedDocument], progress: LoopProgress) -> Iterator[EditedDocument]:
        """Edit the documents of `group`, in order; `progress` counts the tokens that are scored.

        Raises:
            InputError: the prior gives NaN for a token.
        """
        lengths = [len(prepared.tokens.ids) for prepared in group]
        starts = np.cumsum([0, *lengths[:-1]])
        plan = EditPlan(
            self._config.rule,
            self._config.sampler,
            starts=starts,
            editable=np.concatenate([prepared.editable for prepared in group]),
            allowed=self._allowed,
            stream=partial(self._uniforms, group),
        )

        def flag(
            documents: NDArray[np.int64], positions: NDArray[np.int64], log_probs: NDArray[np.float32]
        ) -> NDArray[np.bool_]:
            progress.advance(0, amount=len(positions))
            return plan.flag(documents, positions, log_probs)

        rows = [prepared.tokens.ids.astype(np.int32, copy=False) for prepared in group]
        scores = self._model.scorer.score(rows, flag, plan.sample)
        for prepared, scored, start, length in zip(group, scores, starts, lengths, strict=True):
            self._check(prepared, scored)
            deleted = np.flatnonzero(plan.actions[start : start + length] == Action.DELETE)
            yield self._spliced(prepared, scored, deleted)

    def _uniforms(self, group: Sequence[PreparedDocument], stream: str) -> NDArray[np.float64]:
        seed = self._config.seed
        return np.concatenate([position_uniforms(seed, it.record.id, len(it.tokens.ids), stream) for it in group])

    def _check(self, prepared: PreparedDocument, scored: ScoredDocument) -> None:
        if np.isnan(scored.log_probs[1:]).any():
            reason = self._model.scorer.nan_reason()
            raise InputError(f"{prepared.record.where}: the prior's probability of a token is NaN. {reason}")

    def _spliced(
        self, prepared: PreparedDocument, scored: ScoredDocument, deleted: NDArray[np.int64]
    ) -> EditedDocument:
        originals = prepared.tokens.ids[scored.positions]
        replaced = scored.ids != originals
        new_ids: dict[int, int | None] = dict.fromkeys(deleted.tolist())
        new_ids.update(zip(scored.positions[replaced].tolist(), scored.ids[replaced].tolist(), strict=True))
        new_log_probs = zip(scored.positions.tolist(), scored.new_log_probs.tolist(), strict=True)
        log_probs = dict(new_log_probs) if new_ids else {}
        changes: list[TokenChange] = []
        refused: Counter[str] = Counter()
        for field in prepared.editable_fields if new_ids else ():
            spliced = self._splice(prepared, field, new_ids)
            if spliced is not None:
                edits, reasons = spliced
                changes += [
                    TokenChange(field.source.path, position, edit, None if edit.new_id is None else log_probs[position])
                    for position, edit in edits
                ]
                refused += reasons
        return EditedDocument(prepared, scored.log_probs, scored.positions, deleted, tuple(changes), refused)

    def _splice(
        self, prepared: PreparedDocument, field: EditableField, new_ids: Mapping[int, int | None]
    ) -> tuple[list[tuple[int, Edit]], Counter[str]] | None:
        """The edits of one field with the positions of their tokens, and the numbers of refused edits by reason."""
        positions = field.positions
        inside = {index: new_ids[at] for index, at in enumerate(positions.tolist()) if at in new_ids}
        if not inside:
            return None
        tokens = TokenizedText(prepared.tokens.ids[positions], prepared.tokens.offsets[positions] - field.start)
        protection = self._config.protection
        protected = protected_spans(field.source.text, protection, literals=self._model.literals)
        spliced = splice(
            field.source.text, tokens, inside, self._model.token_texts, protected=protected, guard=protection.guard
        )
        edits = [(int(positions[edit.position]), edit) for edit in spliced.applied]
        return edits, Counter({str(reason): count for reason, count in spliced.reasons.items()})
