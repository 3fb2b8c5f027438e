"""The edit of one shard, from its documents to the files of its output.

Rule: a pure function of the shard and the configuration: no worker, order or interruption can change a byte.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from tailkeep.data.corpus import Passage, Record, Shard, open_passage, read_weights, weight_of
from tailkeep.edit.config import EditConfig
from tailkeep.edit.counting import TokenCounts
from tailkeep.edit.editing import Edited, Editor
from tailkeep.edit.loading import Model
from tailkeep.edit.logs import TokenFile, log_lines
from tailkeep.edit.preparing import groups_of, prepare
from tailkeep.edit.token_input import TOKENIZER, readable
from tailkeep.threads import limited_threads

LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""What `str.splitlines` takes for the end of a line, and so do many readers."""


class ShardWork:
    """Edits shards; `mark` goes into the metadata of parquet outputs, and of ids their tokenizer. A `ShardFunction`."""

    def __init__(self, model: Model, config: EditConfig, mark: Mapping[str, str]) -> None:
        self._model, self._config = model, config
        own = {TOKENIZER: model.surfaces.fingerprint} if config.layout.token_field else {}
        self._mark = {**mark, **own}
        self._editors: dict[str, Editor] = {}

    def __call__(self, shard: Shard, folder: Path) -> Mapping[str, int]:
        """Edit all of `shard` into files below `folder`; the counts of documents and tokens."""
        return self.work(shard, folder)

    def work(self, shard: Shard, folder: Path, *, limit: int | None = None) -> Mapping[str, int]:
        """As a call, of at most the first `limit` documents that can be read."""
        config, counts, drifted = self._config, TokenCounts(), 0
        with (
            limited_threads(config.threads),
            open_passage(shard, config.layout, folder, on_error=config.on_error, mark=self._mark) as passage,
            passage.file("edits").open("w", encoding="utf-8", newline="") as log,
            self._token_file(passage) as tokens,
        ):
            editor = self._editor(shard)
            chosen = self._chosen(islice(passage.records(), limit), passage)
            records = readable(chosen, passage, self._model, config)
            for group in groups_of(records, self._model.tokenizer, self._model.speller):
                for drawn in editor.edit(group):
                    edited = _fitting(drawn, passage)
                    passage.write(edited.prepared.record, edited.contents)
                    log.write(log_lines(edited))
                    counts.add(edited)
                    if tokens is not None:
                        tokens.add(edited)
                        drifted += self._drifts(edited)
        if config.output == "tokens":
            (folder / shard.documents).unlink(missing_ok=True)
        found = {**passage.counts(), **counts.counts()}
        return found if config.output == "text" else {**found, "retokenized_otherwise": drifted}

    def _chosen(self, records: Iterable[Record], passage: Passage) -> Iterator[Record]:
        """Those of `records` whose weight is above 0, all if there are no weights; the others are counted."""
        root = self._config.weights
        if root is None:
            yield from records
            return
        weights = read_weights(root / "weights" / f"{passage.shard.name}.parquet")
        for record in records:
            if weight_of(weights, record.id, record.where) > 0:
                yield record
            else:
                passage.leave_out()

    def _editor(self, shard: Shard) -> Editor:
        barred = LINE_BREAKS if shard.kind == "txt" and self._config.layout.document == "line" else ""
        if barred not in self._editors:
            self._editors[barred] = Editor(self._model, self._config, barred=barred)
        return self._editors[barred]

    def _token_file(self, passage: Passage) -> TokenFile | nullcontext[None]:
        if self._config.output == "text":
            return nullcontext()
        metadata = {TOKENIZER: self._model.surfaces.fingerprint, **self._mark}
        return TokenFile(passage.file("tokens", ".parquet"), metadata)

    def _drifts(self, edited: Edited) -> bool:
        """Whether tokenizing the edited document again gives other ids than the edit."""
        if not edited.changes:
            return False
        record = edited.prepared.record
        parts = tuple(replace(part, text=edited.texts.get(part.path, part.text)) for part in record.parts)
        (again,) = prepare([replace(record, parts=parts)], self._model.tokenizer)
        return not np.array_equal(again.tokens.ids, edited.ids)


def _fitting(edited: Edited, passage: Passage) -> Edited:
    """`edited` without what its file's format cannot hold: edits at the ends of a plain text, else all of them."""
    record = edited.prepared.record
    if not edited.changes or not passage.refuses(record, edited.contents):
        return edited
    lengths = {part.path: len(part.text) for part in record.parts}
    inner = [change for change in edited.changes if change.edit.start > 0 and change.edit.end < lengths[change.path]]
    fewer = edited.keeping(inner, "format")
    return fewer if not passage.refuses(record, fewer.contents) else edited.keeping([], "format")
