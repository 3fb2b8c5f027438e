"""A small job on a corpus, for tests: words are exchanged where a rule says so, and everything goes through disk."""

import gzip
import json
import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tailkeep.data.corpus import (
    Destination,
    Layout,
    Manifest,
    Record,
    Shard,
    find_shards,
    fingerprint_of,
    finish_bundle,
    open_destination,
    open_shard_io,
    read_finished,
)

Change = Callable[[Record], Mapping[str, str]]


def unchanged(record: Record) -> dict[str, str]:
    return record.texts


def exchange(record: Record) -> dict[str, str]:
    """A pure function of the document: some documents are edited, some are not."""
    draw = random.Random(record.id)
    return {path: text.replace("a", "é") if draw.random() < 0.5 else text for path, text in record.texts.items()}


def carry(shard: Shard, folder: Path, *, change: Change = exchange, layout: Layout | None = None, on_error="stop"):
    with open_shard_io(shard, layout or Layout(), folder, on_error=on_error) as shard_io:
        for record in shard_io.records():
            shard_io.write(record, change(record))
    return shard_io.counts()


def copy(path: Path, out: Path, *, layout: Layout | None = None, change: Change = unchanged, on_error="stop") -> Path:
    """Carry the one file at `path` through a shard_io; the path of what comes out."""
    (shard,) = find_shards(path)
    out.mkdir(exist_ok=True)
    carry(shard, out, change=change, layout=layout, on_error=on_error)
    return out / shard.documents


def setup(out: str | Path, storage=None) -> Callable[[Shard], Manifest]:
    destination = open_destination(out, storage=storage)
    return partial(finish, destination)


def finish(destination: Destination, shard: Shard) -> Manifest:
    fingerprint = fingerprint_of(shard, "exchange")
    finished = read_finished(shard, destination, fingerprint=fingerprint)
    return finished or finish_alone(shard, carry, destination, fingerprint=fingerprint)


def finish_alone(shard: Shard, work, destination: Destination, *, fingerprint: str) -> Manifest:
    """A bundle of one."""
    (manifest,) = finish_bundle(
        [shard], lambda shards, folder: [work(*shards, folder)], destination, fingerprints=[fingerprint]
    )
    return manifest


def run(corpus: Path, out: str | Path, *, storage=None, executor=None) -> dict[str, Manifest]:
    open_destination(out, storage=storage).sweep()
    shards = find_shards(corpus)
    if executor is None:
        work = setup(out, storage)
        return {shard.key: work(shard) for shard in shards}
    return {shard.key: done for shard, done in executor.run(partial(setup, out, storage), shards)}


def small_corpus(folder: Path) -> Path:
    """A few files of every kind."""
    (folder / "deep").mkdir(parents=True)
    rows = [{"id": f"d{n}", "text": f"a banana and {n} pears", "n": n} for n in range(6)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / "a.jsonl").write_bytes(lines.replace(b'"d', b'"a'))
    (folder / "deep" / "b.jsonl.gz").write_bytes(gzip.compress(lines.replace(b'"d', b'"b')))
    (folder / "c.txt").write_bytes(b"a pear\n\nan apple\r\nbananas")
    table = pa.table({"id": [f"p{n}" for n in range(6)], "text": [row["text"] for row in rows]})
    pq.write_table(table, folder / "d.parquet", row_group_size=2)
    return folder
