"""The edit of one shard, from its documents to its output files.

    edits/<key>.jsonl      document, path, start, end, old, new, old_id, new_id, old_p, new_p
    tokens/<key>.parquet   document, ids; the metadata of the schema hold the hash of the tokenizer

Rules: the output is a pure function of the bundle and the configuration, so no worker, order or interruption can change
a byte; the small files of a bundle share forward passes. `start` and `end` count characters of the original string, so
the log and the original give the edited document; in a document of token ids they count tokens.
"""

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tailkeep.data.corpus import Record, Shard, ShardIO, open_shard_io, read_weights, weight_of
from tailkeep.edit.config import EditConfig
from tailkeep.edit.editor import DocumentEditor, EditedDocument, EditPrior, TokenChange, group_documents, prepare
from tailkeep.edit.stats import TokenCounts
from tailkeep.edit.token_ids import TOKENIZER, decode_records
from tailkeep.rules import TextTokenizer
from tailkeep.workers import limited_threads

# `TokenFile` writes a row group after so many documents or ids.
_ROWS = 1 << 14
_IDS = 1 << 22


def _log_line(edited: EditedDocument, change: TokenChange) -> str:
    edit = change.edit
    is_ids = edited.prepared.record.tokens is not None
    start, end = (change.position, change.position + 1) if is_ids else (edit.start, edit.end)
    item = {
        "document": edited.prepared.record.id,
        "path": change.path,
        "start": start,
        "end": end,
        "old": edit.old,
        "new": edit.new,
        "old_id": edit.old_id,
        "new_id": edit.new_id,
        "old_p": _probability(float(edited.log_probs[change.position])),
        "new_p": None if change.new_log_prob is None else _probability(change.new_log_prob),
    }
    return json.dumps(item, ensure_ascii=False) + "\n"


def _probability(log_prob: float) -> float:
    return float(f"{math.exp(log_prob):.6g}")


class TokenFile:
    """Writes the token ids of documents to a parquet file, in bounded row groups."""

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        self._schema = pa.schema([("document", pa.string()), ("ids", pa.list_(pa.int32()))], metadata=dict(metadata))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("wb")
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        self._documents: list[str] = []
        self._ids: list[pa.Array] = []
        self._num_ids = 0

    def add(self, edited: EditedDocument) -> None:
        """Write the ids of one document."""
        self._documents.append(edited.prepared.record.id)
        self._ids.append(edited.ids)
        self._num_ids += len(self._ids[-1])
        if len(self._documents) >= _ROWS or self._num_ids >= _IDS:
            self._flush()

    def _flush(self) -> None:
        if self._documents:
            columns = [pa.array(self._documents), pa.array(self._ids, pa.list_(pa.int32()))]
            self._writer.write_table(pa.table(columns, schema=self._schema))
            self._documents, self._ids, self._num_ids = [], [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._writer.close()
        finally:
            self._file.close()


LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""The line ends of `str.splitlines`, and of many readers of lines."""


class ShardEditor:
    """A `BundleFunction`. `metadata` goes into parquet outputs, with the tokenizer's hash if they are token ids."""

    def __init__(
        self,
        model: EditPrior,
        config: EditConfig,
        metadata: Mapping[str, str],
        *,
        reject_rows: Mapping[str, Mapping[int, str]] | None = None,
    ) -> None:
        self._model, self._config, self._reject_rows = model, config, reject_rows or {}
        tokenizer_hash = {TOKENIZER: model.token_texts.fingerprint} if config.layout.token_field else {}
        self._metadata = {**metadata, **tokenizer_hash}
        self._editors: dict[str, DocumentEditor] = {}

    def __call__(self, shards: Sequence[Shard], folder: Path, *, limit: int | None = None) -> list[Mapping[str, int]]:
        """Edit `shards`, of one format, into files below `folder`; the counts of documents and tokens of each.

        With `limit`, at most the first documents of each that can be read.
        """
        outputs: list[_ShardOutput] = []
        # The files of the documents that were read and are not yet written, in order.
        pending: deque[_ShardOutput] = deque()
        with limited_threads(self._config.num_threads), ExitStack() as stack:

            def records() -> Iterator[Record]:
                for shard in shards:
                    outputs.append(stack.enter_context(self._open(shard, folder)))
                    for record in self._records(outputs[-1].shard_io, limit):
                        pending.append(outputs[-1])
                        yield record

            editor = self._editor(shards[0])
            for group in group_documents(records(), self._model.tokenizer, self._model.detokenize):
                for document in editor.edit(group, pending[0].shard_io.progress):
                    pending.popleft().write(document)
        if self._config.output == "tokens":
            for shard in shards:
                (folder / shard.documents).unlink(missing_ok=True)
        return [output.totals() for output in outputs]

    @contextmanager
    def _open(self, shard: Shard, folder: Path) -> Iterator["_ShardOutput"]:
        """The output of `shard`."""
        config = self._config
        reject_rows = self._reject_rows.get(shard.key if shard.part is None else shard.name)
        with (
            open_shard_io(
                shard,
                config.layout,
                folder,
                on_error=config.on_error,
                metadata=self._metadata,
                reject_rows=reject_rows,
            ) as shard_io,
            shard_io.file("edits").open("w", encoding="utf-8", newline="") as log,
            self._token_file(shard_io) as tokens,
        ):
            yield _ShardOutput(shard_io, log, tokens, self._model.tokenizer)

    def _records(self, shard_io: ShardIO, limit: int | None) -> Iterator[Record]:
        records = self._with_positive_weight(islice(shard_io.records(), limit), shard_io)
        if self._config.layout.token_field:
            return decode_records(records, shard_io, self._model, self._config)
        return records

    def _with_positive_weight(self, records: Iterable[Record], shard_io: ShardIO) -> Iterator[Record]:
        """The records with a weight above 0, all if there are no weights; the others are excluded."""
        root = self._config.sample_weights
        if root is None:
            yield from records
            return
        weights = read_weights(root / "weights" / f"{shard_io.shard.name}.parquet")
        for record in records:
            if weight_of(weights, record.id, record.where) > 0:
                yield record
            else:
                shard_io.exclude()

    def _editor(self, shard: Shard) -> DocumentEditor:
        is_lines = shard.kind == "txt" and self._config.layout.document_separator == "line"
        excluded = LINE_BREAKS if is_lines else ""
        if excluded not in self._editors:
            self._editors[excluded] = DocumentEditor(self._model, self._config, excluded_characters=excluded)
        return self._editors[excluded]

    def _token_file(self, shard_io: ShardIO) -> TokenFile | nullcontext[None]:
        if self._config.output == "text":
            return nullcontext()
        metadata = {TOKENIZER: self._model.token_texts.fingerprint, **self._metadata}
        return TokenFile(shard_io.file("tokens", ".parquet"), metadata)


class _ShardOutput:
    """The files of one shard at work, and the counts of its documents."""

    def __init__(self, shard_io: ShardIO, log: IO[str], token_file: TokenFile | None, tokenizer: TextTokenizer) -> None:
        self.shard_io = shard_io
        self._log, self._token_file, self._tokenizer = log, token_file, tokenizer
        self._counts, self._num_retokenized = TokenCounts(), 0

    def write(self, document: EditedDocument) -> None:
        """Write one document of the shard, the next one in its order."""
        edited = _drop_unwritable(document, self.shard_io)
        self.shard_io.write(edited.prepared.record, edited.contents)
        self._log.writelines(_log_line(edited, change) for change in edited.changes)
        self._counts.add(edited)
        if self._token_file is not None:
            self._token_file.add(edited)
            self._num_retokenized += self._retokenizes_differently(edited)

    def totals(self) -> dict[str, int]:
        """The counts of documents and tokens."""
        totals = {**self.shard_io.counts(), **self._counts.counts()}
        return totals if self._token_file is None else {**totals, "retokenized_otherwise": self._num_retokenized}

    def _retokenizes_differently(self, edited: EditedDocument) -> bool:
        """Whether tokenizing the edited document gives other ids than the edit."""
        if not edited.changes:
            return False
        record = edited.prepared.record
        fields = tuple(replace(field, text=edited.texts.get(field.path, field.text)) for field in record.fields)
        (retokenized,) = prepare([replace(record, fields=fields)], self._tokenizer)
        return not np.array_equal(retokenized.tokens.ids, edited.ids)


def _drop_unwritable(edited: EditedDocument, shard_io: ShardIO) -> EditedDocument:
    """`edited` without the changes that its format cannot hold: those at the ends of a plain text, else all."""
    record = edited.prepared.record
    if not edited.changes or not shard_io.format_error(record, edited.contents):
        return edited
    lengths = {field.path: len(field.text) for field in record.fields}
    inner = [change for change in edited.changes if change.edit.start > 0 and change.edit.end < lengths[change.path]]
    fewer = edited.restrict_to(inner, "format")
    return fewer if not shard_io.format_error(record, fewer.contents) else edited.restrict_to([], "format")
