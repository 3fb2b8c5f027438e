"""Large files in parts: where they are cut, and how the outputs of the parts become one file again.

Rule: a part is whole documents, and its bounds follow from the file and `part_bytes` alone. A compressed file is
decompressed once, from its start to its end, and its parts lie on the disk until they are finished.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from shutil import copyfileobj

from tailkeep.data.corpus.csv_rows import DELIMITERS
from tailkeep.data.corpus.destination import write_errors
from tailkeep.data.corpus.parquet import join_row_groups
from tailkeep.data.corpus.plain import open_plain
from tailkeep.data.corpus.schema import MEGABYTE, Layout
from tailkeep.data.corpus.shards import FilePart, Shard, Spool
from tailkeep.data.corpus.text_files import blank_errors, document_spans

PART_BYTES = 64 * MEGABYTE
"""The plain bytes of a part, by default; a part ends with the document in which they do."""


def may_have_parts(shard: Shard, layout: Layout, part_bytes: int) -> bool:
    """Whether `shard` is a file that may be longer than a part; how long a compressed one is shows when it is read."""
    is_part = shard.part is not None or shard.row_groups is not None or shard.spool is not None
    is_one_document = shard.kind == "txt" and layout.document_separator == "file"
    if is_part or is_one_document or shard.kind == "parquet":
        return False
    return shard.compression != "none" or shard.size > part_bytes


def split_file(shard: Shard, layout: Layout, part_bytes: int, folder: Path) -> Generator[Shard]:
    """The parts of `shard` in order, or `shard` itself if it is one. An array of JSON is one part.

    Of a compressed file, each comes with a spool below `folder`; whoever is done with it deletes it.

    Raises:
        InputError: the file cannot be read.
        StorageError: there is no space for a spool.
    """
    with open_plain(shard) as stream, blank_errors(shard, layout), ExitStack() as stack:
        spool = None if shard.compression == "none" else stack.enter_context(closing(_SpoolWriter(folder)))
        copied = stream if spool is None else spool.copy(stream)
        is_array, spans = document_spans(copied, shard, layout, layout.max_document_bytes)
        if is_array:
            yield shard
            return
        start = end = row = 0
        line = 1
        names, fault = b"", ""
        for number, span in enumerate(spans):
            if span.chunk is None:
                end += len(span.before) + len(span.after)
                break
            if shard.kind in DELIMITERS and not number:
                names = span.before
            if end - start >= part_bytes:
                yield _part(shard, FilePart(start, end, row, line, names), spool)
                start, row, line = end, number, span.chunk.line
            end += len(span.before) + span.chunk.length + len(span.after)
            fault = span.chunk.fault
        if start:
            yield _part(shard, FilePart(start, end, row, line, names), spool, fault)
        else:
            yield shard if spool is None else replace(shard, spool=spool.cut(end, fault))


def _part(shard: Shard, part: FilePart, spool: "_SpoolWriter | None", fault: str = "") -> Shard:
    return replace(shard, part=part, spool=None if spool is None else spool.cut(part.stop, fault))


class _SpoolWriter:
    """Copies a stream to files below `folder`, which are cut where parts end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = self._start = 0
        self._open(b"")

    def copy(self, stream: Iterator[bytes]) -> Iterator[bytes]:
        """The blocks of `stream`; each is on the disk before it is yielded."""
        for block in stream:
            with write_errors(str(self._folder)):
                self._file.write(block)
            yield block

    def cut(self, at: int, fault: str = "") -> Spool:
        """The file with the bytes before `at`, counted from the start of the stream; the others begin the next one."""
        path, length = Path(self._file.name), at - self._start
        with write_errors(str(self._folder)), self._file:
            self._file.seek(length)
            rest = self._file.read()
            self._file.truncate(length)
        self._start = at
        self._open(rest)
        return Spool(str(path), fault)

    def close(self) -> None:
        """Delete what was not cut."""
        self._file.close()
        Path(self._file.name).unlink(missing_ok=True)

    def _open(self, content: bytes) -> None:
        path = self._folder / str(self._number)
        self._number += 1
        with write_errors(str(self._folder)):
            self._file = path.open("w+b")  # closed by `cut` or `close`
            self._file.write(content)


def join_parts(shard: Shard, parts: Sequence[Path], path: Path) -> None:
    """Write the outputs of the parts of `shard`, in order, to one file.

    Of a compressed format each part is a member or frame of its own, and these can be concatenated.
    """
    if shard.kind == "parquet":
        join_row_groups(parts, path)
        return
    with path.open("wb") as file:
        for part in parts:
            with part.open("rb") as content:
                copyfileobj(content, file)
