"""The plain bytes of a shard: those of its file, decompressed, or of its part of it.

Rule: a part is read from its spool or, where that is missing, from the file itself: the bytes are the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from tailkeep.data.corpus.io import TruncatedFileError, blocks, open_input
from tailkeep.data.corpus.shards import FilePart, Shard


@contextmanager
def open_plain(shard: Shard) -> Iterator[Iterator[bytes]]:
    """The plain bytes of `shard`, of any format but parquet, block by block.

    Reading raises a TruncatedFileError behind the last block of a compressed file that is damaged.

    Raises:
        InputError: the file cannot be read.
    """
    fault = shard.spool.fault if shard.spool else ""
    if shard.spool and Path(shard.spool.path).is_file():
        with Path(shard.spool.path).open("rb") as file:
            yield chain(blocks(file, "none"), broken_off(fault))
        return
    with open_input(shard.url, shard.name) as file:
        if shard.part is None:
            yield blocks(file, shard.compression)
            return
        skipped = shard.part.start
        if shard.compression == "none":
            file.seek(skipped)
            skipped = 0
        yield chain(_between(blocks(file, shard.compression), skipped, shard.part), broken_off(fault))


def _between(stream: Iterator[bytes], skipped: int, part: FilePart) -> Iterator[bytes]:
    """The bytes of `part` in `stream`, behind the first `skipped`."""
    remaining = part.stop - part.start
    for block in stream:
        inside = block[skipped : skipped + remaining]
        skipped = max(0, skipped - len(block))
        remaining -= len(inside)
        if inside:
            yield inside
        if not remaining:
            return


def broken_off(fault: str) -> Iterator[bytes]:
    """Nothing, then the `fault`, if there is one."""
    yield from ()
    if fault:
        raise TruncatedFileError(fault)
