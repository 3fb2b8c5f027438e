"""What an edit leaves beside the documents: a log of the edits, and token ids.

    edits/<key>.jsonl   document, path, start, end, old, new, old_id, new_id, old_p, new_p
    tokens/<key>.parquet   document, ids; the schema's metadata hold the tokenizer's hash

Rule: characters are counted in the original string, so that the log and the original make the edited document. In a
document of token ids, `start` and `end` count tokens of the original list.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from tailkeep.edit.editing import Change, Edited

_ROWS = 1 << 14
_IDS = 1 << 22


def log_lines(edited: Edited) -> str:
    """The lines of the log for one document."""
    return "".join(_line(edited, change) for change in edited.changes)


def _line(edited: Edited, change: Change) -> str:
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

    def add(self, edited: Edited) -> None:
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
