"""The readable documents of a shard as text, one after another; what cannot be read stops the work or is rejected.

Rule: the text of a document is its text fields, joined by line breaks.
"""

from collections.abc import Iterator
from pathlib import Path

from tailkeep.data.corpus import Layout, OnError, Rejected, Shard, read_shard, reject_line
from tailkeep.data.counters import ShardDocument
from tailkeep.errors import InputError


class DocumentReader:
    """Reads the documents of `shard`. `read` and `rejected` count them."""

    def __init__(self, shard: Shard, layout: Layout, folder: Path, on_error: OnError) -> None:
        self._shard, self._layout, self._folder, self._on_error = shard, layout, folder, on_error
        self.read = self.rejected = 0

    def documents(self, shard: Shard) -> Iterator[ShardDocument]:
        """Yield the documents of `shard`, the shard of the reader under the name it has in its input.

        Raises:
            InputError: a document cannot be read and `on_error` is "stop", or the file cannot be read.
        """
        for item in read_shard(shard, self._layout):
            self.read += 1
            if isinstance(item, Rejected):
                self._reject(item)
                continue
            text = "\n".join(item.texts.values())
            yield ShardDocument(self.read - self.rejected - 1, item.row, item.id, text, text.encode("utf-8"))

    def _reject(self, rejected: Rejected) -> None:
        if self._on_error == "stop":
            raise InputError(f"{rejected.where}: {rejected.reason}.")
        self.rejected += 1
        path = self._folder / "rejects" / f"{self._shard.key}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(reject_line(rejected))
