"""The readable documents of a shard as text, one after another; what cannot be read stops the work or is rejected.

Rules: the text of a document is its text fields, joined by line breaks. Its source is the value of a field, of a URL
its host, or its file.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from tailkeep.data.corpus import (
    Layout,
    OnError,
    Rejected,
    Shard,
    read_shard,
    reject_line,
    size_in_progress,
    track_shard,
)
from tailkeep.data.counters import ShardDocument
from tailkeep.errors import InputError

FILE = "file"
"""What names the file of a document as its source, instead of a field."""

NO_SOURCE = "(none)"
_MAX_SOURCE = 200


class DocumentReader:
    """Reads the documents of `shard`, whose source is in the field `by`. `read` and `rejected` count them."""

    def __init__(self, shard: Shard, layout: Layout, folder: Path, on_error: OnError, *, by: str | None = None) -> None:
        self._shard, self._layout, self._folder, self._on_error = shard, layout, folder, on_error
        self._by = by
        self.read = self.rejected = 0

    def documents(self, shard: Shard) -> Iterator[ShardDocument]:
        """Yield the documents of `shard`, the shard of the reader under the name it has in its input.

        Raises:
            InputError: a document cannot be read and `on_error` is "stop", or the file cannot be read.
        """
        progress = track_shard(shard)
        for item in read_shard(shard, self._layout, None if self._by == FILE else self._by):
            self.read += 1
            if isinstance(item, Rejected):
                self._reject(item)
            else:
                text = "\n".join(item.texts.values())
                source = "" if self._by is None else shard.name if self._by == FILE else name_source(item.extra)
                number = self.read - self.rejected - 1
                yield ShardDocument(number, item.row, item.id, text, text.encode("utf-8"), source)
            progress.advance(size_in_progress(item))

    def _reject(self, rejected: Rejected) -> None:
        if self._on_error == "stop":
            raise InputError(f"{rejected.where}: {rejected.reason}.")
        self.rejected += 1
        path = self._folder / "rejects" / f"{self._shard.key}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(reject_line(rejected))


def name_source(value: Any) -> str:
    """The source that the `value` of a field names: of a URL the host, of a list or an object nothing."""
    if isinstance(value, bool | int | float):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        return NO_SOURCE
    text = value.strip()
    if "://" in text:
        with suppress(ValueError):  # no URL after all
            text = urlsplit(text).hostname or text
    # Half a surrogate pair cannot be written.
    return text[:_MAX_SOURCE].encode("utf-8", "replace").decode("utf-8")


class RejectsFile:
    """Takes documents that cannot be read; `path` is their file, which exists only if there are any."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path, self.count, self.first = path, 0, ""
        self._stack = stack
        self._file: IO[str] | None = None
        path.unlink(missing_ok=True)

    def __call__(self, rejected: Rejected) -> None:
        """Write `rejected`, with its bytes and the reason."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._stack.enter_context(self.path.open("w", encoding="utf-8", newline=""))
        self._file.write(reject_line(rejected))
        self.count += 1
        self.first = self.first or f"{rejected.where}: {rejected.reason}"


@contextmanager
def open_rejects(path: Path) -> Iterator[RejectsFile]:
    """The file of rejects at `path`."""
    with ExitStack() as stack:
        yield RejectsFile(path, stack)
