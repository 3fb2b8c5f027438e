"""Whether an input is still what a finished shard was made of.

    manifests/<key>.json   input: the sha256 of the bytes that were read

Rule: a time is no content. A file that is older than the manifest is the one that was read; any other is read again and
counts by its bytes, so that a copy elsewhere is as good as the original.
"""

import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import IO

import pyarrow.parquet as pq

from tailkeep.data.corpus.shards import Shard
from tailkeep.data.corpus.streams import open_input, open_parquet
from tailkeep.errors import FingerprintError

_BLOCK = 1 << 20
# So much may the clocks of two machines differ, or a file change after its shard has begun.
_MARGIN_SECONDS = 60.0
_SHOWN = 12


@lru_cache(maxsize=1024)
def input_sha256(shard: Shard) -> str:
    """The sha256 of the bytes of `shard`; of row groups that of theirs alone.

    Reading them once more costs little beside a forward pass over what they say. Within a run it is done once, since
    all parts of a joined file ask for the whole; `forget_inputs` begins the next.

    Raises:
        InputError: the file cannot be read.
    """
    start, stop = (0, None) if shard.row_groups is None else _range(shard, *shard.row_groups)
    digest = hashlib.sha256()
    with open_input(shard.url, shard.name) as file:
        file.seek(start)
        for block in _blocks(file, sys.maxsize if stop is None else stop - start):
            digest.update(block)
    return digest.hexdigest()


def forget_inputs() -> None:
    """Read every input anew from now on: many stores tell times in whole seconds, so they name no content."""
    input_sha256.cache_clear()


def refuse_changed(shard: Shard, sha256: str, *, finished: float | None) -> None:
    """Refuse `shard` if its bytes are others than those of `sha256`, from which it was `finished` at that time.

    Raises:
        FingerprintError: they are.
    """
    if shard.changed is not None and finished is not None and shard.changed + _MARGIN_SECONDS < finished:
        return
    if (now := input_sha256(shard)) != sha256:
        raise FingerprintError(
            f"{shard.name} is no longer what was edited: its sha256 was {sha256[:_SHOWN]} and is {now[:_SHOWN]}. "
            "Put the file back, or give a new --out."
        )


def _range(shard: Shard, first: int, last: int) -> tuple[int, int]:
    """Where the bytes of the row groups from `first` to `last` (excluded) begin and end."""
    with open_parquet(shard.url, shard.name) as file:
        starts, ends = zip(*(_span(file, number) for number in range(first, last)), strict=True)
    return min(starts), max(ends)


def _span(file: pq.ParquetFile, number: int) -> tuple[int, int]:
    group = file.metadata.row_group(number)
    columns = [group.column(index) for index in range(group.num_columns)]
    # A dictionary, if there is one, stands before the data.
    starts = [
        min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset) for column in columns
    ]
    sizes = [column.total_compressed_size for column in columns]
    return min(starts), max(start + size for start, size in zip(starts, sizes, strict=True))


def _blocks(file: IO[bytes], left: int) -> Iterator[bytes]:
    while left and (block := file.read(min(left, _BLOCK))):
        left -= len(block)
        yield block
