"""The edit of one shard, from its documents to the files of its output.

Rule: a pure function of the shard and the configuration: no worker, order or interruption can change a byte.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tailkeep.data.corpus import Destination, Record, Shard, ShardIO, open_shard_io, read_weights, weight_of
from tailkeep.edit.config import EditConfig
from tailkeep.edit.editor import DocumentEditor, EditedDocument, TokenChange, groups_of, prepare
from tailkeep.edit.prior import EditPrior
from tailkeep.edit.stats import TokenCounts
from tailkeep.edit.token_ids import TOKENIZER, decode_records
from tailkeep.errors import StorageError, TailkeepError
from tailkeep.sanitize import redact
from tailkeep.workers import limited_threads

# What an edit leaves beside the documents: a log of the edits, and token ids.
#
#     edits/<key>.jsonl   document, path, start, end, old, new, old_id, new_id, old_p, new_p
#     tokens/<key>.parquet   document, ids; the schema's metadata hold the tokenizer's hash
#
# Rule: characters are counted in the original string, so that the log and the original make the edited document. In a
# document of token ids, `start` and `end` count tokens of the original list.


_ROWS = 1 << 14
_IDS = 1 << 22


def log_lines(edited: EditedDocument) -> str:
    """The lines of the log for one document."""
    return "".join(_line(edited, change) for change in edited.changes)


def _line(edited: EditedDocument, change: TokenChange) -> str:
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
    """Writes the token ids of documents into a parquet file, a bounded number at once."""

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        self._schema = pa.schema([("document", pa.string()), ("ids", pa.list_(pa.int32()))], metadata=dict(metadata))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("wb")
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        self._documents: list[str] = []
        self._ids: list[pa.Array] = []
        self._held = 0

    def add(self, edited: EditedDocument) -> None:
        """Write one document's."""
        self._documents.append(edited.prepared.record.id)
        self._ids.append(edited.ids)
        self._held += len(self._ids[-1])
        if len(self._documents) >= _ROWS or self._held >= _IDS:
            self._flush()

    def _flush(self) -> None:
        if self._documents:
            columns = [pa.array(self._documents), pa.array(self._ids, pa.list_(pa.int32()))]
            self._writer.write_table(pa.table(columns, schema=self._schema))
            self._documents, self._ids, self._held = [], [], 0

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


# What stopped the work on a shard, for the report.
#
#     failures/<key>.json   shard, fingerprint of the run, error
#
# Rule: it stands there until the shard is finished, and never in the way of the error itself.


FOLDER = "failures"


@contextmanager
def record_failure(shard: Shard, destination: Destination, *, run: str) -> Iterator[None]:
    """Inside, `shard` is worked on for the run with the fingerprint `run`; an error is left at `destination`.

    Raises:
        TailkeepError: whatever was raised inside.
    """
    name = f"{FOLDER}/{shard.key}.json"
    try:
        yield
    except TailkeepError as error:
        tree = {"shard": shard.key, "fingerprint": run, "error": redact(str(error))}
        # A disk that is full holds no word about it either.
        with suppress(StorageError):
            destination.write_text(name, json.dumps(tree, ensure_ascii=False, indent=2) + "\n")
        raise
    destination.remove(name)


LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""What `str.splitlines` takes for the end of a line, and so do many readers."""


class ShardEditor:
    """Edits shards; `mark` goes into the metadata of parquet outputs, and of ids their tokenizer. A `ShardFunction`."""

    def __init__(self, model: EditPrior, config: EditConfig, mark: Mapping[str, str]) -> None:
        self._model, self._config = model, config
        tokenizer_mark = {TOKENIZER: model.surfaces.fingerprint} if config.layout.token_field else {}
        self._mark = {**mark, **tokenizer_mark}
        self._editors: dict[str, DocumentEditor] = {}

    def __call__(self, shard: Shard, folder: Path) -> Mapping[str, int]:
        """Edit all of `shard` into files below `folder`; the counts of documents and tokens."""
        return self.work(shard, folder)

    def work(self, shard: Shard, folder: Path, *, limit: int | None = None) -> Mapping[str, int]:
        """As a call, of at most the first `limit` documents that can be read."""
        config, counts, drifted = self._config, TokenCounts(), 0
        with (
            limited_threads(config.num_threads),
            open_shard_io(shard, config.layout, folder, on_error=config.on_error, mark=self._mark) as shard_io,
            shard_io.file("edits").open("w", encoding="utf-8", newline="") as log,
            self._token_file(shard_io) as tokens,
        ):
            editor = self._editor(shard)
            records_to_edit = self._with_weight(islice(shard_io.records(), limit), shard_io)
            records = decode_records(records_to_edit, shard_io, self._model, config)
            for group in groups_of(records, self._model.tokenizer, self._model.detokenize):
                for document in editor.edit(group):
                    edited = _check_fits(document, shard_io)
                    shard_io.write(edited.prepared.record, edited.contents)
                    log.write(log_lines(edited))
                    counts.add(edited)
                    if tokens is not None:
                        tokens.add(edited)
                        drifted += self._drifts(edited)
        if config.output == "tokens":
            (folder / shard.documents).unlink(missing_ok=True)
        totals = {**shard_io.counts(), **counts.counts()}
        return totals if config.output == "text" else {**totals, "retokenized_otherwise": drifted}

    def _with_weight(self, records: Iterable[Record], shard_io: ShardIO) -> Iterator[Record]:
        """Those of `records` whose weight is above 0, all if there are no weights; the others are counted."""
        root = self._config.sample_weights
        if root is None:
            yield from records
            return
        weights = read_weights(root / "weights" / f"{shard_io.shard.name}.parquet")
        for record in records:
            if weight_of(weights, record.id, record.where) > 0:
                yield record
            else:
                shard_io.leave_out()

    def _editor(self, shard: Shard) -> DocumentEditor:
        barred = LINE_BREAKS if shard.kind == "txt" and self._config.layout.document == "line" else ""
        if barred not in self._editors:
            self._editors[barred] = DocumentEditor(self._model, self._config, barred=barred)
        return self._editors[barred]

    def _token_file(self, shard_io: ShardIO) -> TokenFile | nullcontext[None]:
        if self._config.output == "text":
            return nullcontext()
        metadata = {TOKENIZER: self._model.surfaces.fingerprint, **self._mark}
        return TokenFile(shard_io.file("tokens", ".parquet"), metadata)

    def _drifts(self, edited: EditedDocument) -> bool:
        """Whether tokenizing the edited document again gives other ids than the edit."""
        if not edited.changes:
            return False
        record = edited.prepared.record
        parts = tuple(replace(part, text=edited.texts.get(part.path, part.text)) for part in record.parts)
        (again,) = prepare([replace(record, parts=parts)], self._model.tokenizer)
        return not np.array_equal(again.tokens.ids, edited.ids)


def _check_fits(edited: EditedDocument, shard_io: ShardIO) -> EditedDocument:
    """`edited` without what its file's format cannot hold: edits at the ends of a plain text, else all of them."""
    record = edited.prepared.record
    if not edited.changes or not shard_io.refuses(record, edited.contents):
        return edited
    lengths = {part.path: len(part.text) for part in record.parts}
    inner = [change for change in edited.changes if change.edit.start > 0 and change.edit.end < lengths[change.path]]
    fewer = edited.keeping(inner, "format")
    return fewer if not shard_io.refuses(record, fewer.contents) else edited.keeping([], "format")
