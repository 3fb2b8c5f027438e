"""What is finished: one manifest per shard, written by `declare_finished` when all else of the shard is there.

    manifests/<key>.json   fingerprint, sha256 of the input, counts, bytes and sha256 of each output

Rule: an output counts by its manifest, never by being there.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq

from tailkeep.config import Settings, validate
from tailkeep.data.corpus.destination import Destination, Output
from tailkeep.data.corpus.io import open_input, open_parquet
from tailkeep.data.corpus.shards import Shard
from tailkeep.errors import ConfigError, FingerprintError
from tailkeep.runs import hash_tree

# Whether an input is still what a finished shard was made of.
#
#
# Rule: a time is no content. A file that is older than the manifest is the one that was read; any other is read again
# and counts by its bytes, so that a copy elsewhere is as good as the original.


_BLOCK = 1 << 20
# So much may the clocks of two machines differ, or a file change after its shard has begun.
_MARGIN_SECONDS = 60.0
_SHOWN = 12


@lru_cache(maxsize=1024)
def input_sha256(shard: Shard) -> str:
    """The sha256 of the bytes of `shard`; of row groups that of theirs alone.

    Reading them once more costs little beside a forward pass over what they say. Within a run it is done once, since
    all parts of a joined file ask for the whole; `clear_input_hashes` begins the next.

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


def clear_input_hashes() -> None:
    """Read every input anew from now on: many stores tell times in whole seconds, so they name no content."""
    input_sha256.cache_clear()


def check_unchanged(shard: Shard, sha256: str, *, finished_at: float | None) -> None:
    """Refuse `shard` if its bytes are others than those of `sha256`, from which it was finished at that time.

    Raises:
        FingerprintError: they are.
    """
    if shard.changed is not None and finished_at is not None and shard.changed + _MARGIN_SECONDS < finished_at:
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


def _blocks(file: IO[bytes], remaining: int) -> Iterator[bytes]:
    while remaining and (block := file.read(min(remaining, _BLOCK))):
        remaining -= len(block)
        yield block


ShardFunction = Callable[[Shard, Path], Mapping[str, int | float]]
"""Makes the output of a shard in files below a folder and returns counts, which add up over shards."""


class Manifest(Settings):
    """What the work on one shard has left, by paths below the output."""

    shard: str
    fingerprint: str
    input: str
    counts: dict[str, int | float]
    outputs: dict[str, Output]

    def text(self) -> str:
        """The manifest as JSON, one key a line, the same text for the same content."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def fingerprint_of(shard: Shard, sources: Mapping[str, Any]) -> str:
    """The hash of all that decides the output of `shard`: `sources`, and what of the shard does."""
    return hash_tree({"sources": sources, **shard.sources()})


def finish_shard(shard: Shard, work: ShardFunction, destination: Destination, *, fingerprint: str) -> Manifest:
    """Run `work` on `shard`, publish its files, then its manifest. Done again it leaves the same bytes.

    Raises:
        StorageError: the store refused; the shard has no manifest of this work.
    """
    counts: dict[str, int | float] = {}

    def fill(folder: Path) -> None:
        counts.update(work(shard, folder))

    old, source = _read(shard, destination), input_sha256(shard)
    outputs = destination.publish(shard.key, fill)
    for stale in sorted(old.outputs.keys() - outputs.keys()) if old else ():
        destination.remove(stale)
    manifest = Manifest(shard=shard.key, fingerprint=fingerprint, input=source, counts=counts, outputs=outputs)
    declare_finished(manifest, destination)
    return manifest


def declare_finished(manifest: Manifest, destination: Destination) -> None:
    """Declare the shard of `manifest` finished: write its manifest, after all its outputs. Nothing else does."""
    destination.write_text(_name(manifest.shard), manifest.text())


def finished_manifest(shard: Shard, destination: Destination, sources: Mapping[str, Any]) -> Manifest | None:
    """The manifest by which `shard` is finished: that of the file of which it is a part, else its own.

    Raises:
        FingerprintError: the input has changed since.
    """
    # In this order: what remains of the parts behind a joined file must not count twice.
    for unit in dict.fromkeys((shard.whole, shard)):
        if manifest := read_finished(unit, destination, fingerprint=fingerprint_of(unit, sources)):
            return manifest
    return None


def read_finished(shard: Shard, destination: Destination, *, fingerprint: str, verify: bool = False) -> Manifest | None:
    """The manifest of `shard`, if it is of this fingerprint and its outputs are there with the recorded size.

    With `verify`, they are read and must have the recorded sha256 too.

    Raises:
        FingerprintError: the input has changed since.
    """
    manifest = _read(shard, destination)
    if manifest is None or manifest.fingerprint != fingerprint:
        return None
    for name, output in manifest.outputs.items():
        if destination.size(name) != output.bytes or (verify and destination.sha256(name) != output.sha256):
            return None
    check_unchanged(shard, manifest.input, finished_at=destination.modified(_name(shard.key)))
    return manifest


def sum_counts(manifests: Iterable[Manifest]) -> dict[str, int | float]:
    """The counts of all of them, added up."""
    counts: Counter[str] = Counter()
    for manifest in manifests:
        for name, count in manifest.counts.items():
            counts[name] += count  # type: ignore[assignment]  # a Counter adds up floats as well
    return dict(sorted(counts.items()))


def _name(key: str) -> str:
    return f"manifests/{key}.json"


def _read(shard: Shard, destination: Destination) -> Manifest | None:
    """The manifest of `shard`, or None if there is none or it is not whole: then the work is done again."""
    text = destination.read_text(_name(shard.key))
    if text is None:
        return None
    try:
        return validate(Manifest, json.loads(text), source=_name(shard.key))
    except (ConfigError, ValueError):
        return None
