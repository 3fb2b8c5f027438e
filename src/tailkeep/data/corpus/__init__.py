"""Corpora of any size: shards in and out, their manifests, and who works on them."""

from tailkeep.data.corpus.destination import Bucket, Destination, Folder, Output, ShardStorage, open_destination
from tailkeep.data.corpus.executors import Executor, Inline, LocalPool, Setup
from tailkeep.data.corpus.identity import refuse_equal_ids
from tailkeep.data.corpus.layout import Chat, Layout, Part, Record, Rejected
from tailkeep.data.corpus.manifest import Manifest, ShardFunction, fingerprint_of, finish_shard, finished, total
from tailkeep.data.corpus.parquet import join_parts
from tailkeep.data.corpus.passage import OnError, Passage, open_passage, read_shard
from tailkeep.data.corpus.shards import Shard, find_shards, my_tasks

__all__ = [
    "Bucket",
    "Chat",
    "Destination",
    "Executor",
    "Folder",
    "Inline",
    "Layout",
    "LocalPool",
    "Manifest",
    "OnError",
    "Output",
    "Part",
    "Passage",
    "Record",
    "Rejected",
    "Setup",
    "Shard",
    "ShardFunction",
    "ShardStorage",
    "find_shards",
    "fingerprint_of",
    "finish_shard",
    "finished",
    "join_parts",
    "my_tasks",
    "open_destination",
    "open_passage",
    "read_shard",
    "refuse_equal_ids",
    "total",
]
