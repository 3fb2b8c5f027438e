"""Corpora of any size: shards in and out, their manifests, and who works on them."""

from tailkeep.data.corpus.destination import Bucket, Destination, Folder, Output, ShardStorage, open_destination
from tailkeep.data.corpus.driving import Observer, Progress, drive, nobody, refuse_idle_hands
from tailkeep.data.corpus.executors import Executor, Inline, LocalPool, Setup
from tailkeep.data.corpus.identity import refuse_equal_ids
from tailkeep.data.corpus.layout import Chat, Content, Layout, Part, Record, Rejected
from tailkeep.data.corpus.manifest import Manifest, ShardFunction, fingerprint_of, finish_shard, finished, total
from tailkeep.data.corpus.opened import Contents, OpenRun, open_run, refuse_inside
from tailkeep.data.corpus.parquet import join_parts
from tailkeep.data.corpus.passage import OnError, Passage, open_passage, read_shard, reject_line
from tailkeep.data.corpus.refusals import refuse_idle_layout
from tailkeep.data.corpus.rejects import Rejects, read_rejects
from tailkeep.data.corpus.shards import Shard, find_shards, my_tasks
from tailkeep.data.corpus.tasks import Task, task_here
from tailkeep.data.corpus.telling import Lines
from tailkeep.data.corpus.unchanged import input_sha256
from tailkeep.data.corpus.weights import read_weights, repeated, weight_of, write_weights

__all__ = [
    "Bucket",
    "Chat",
    "Content",
    "Contents",
    "Destination",
    "Executor",
    "Folder",
    "Inline",
    "Layout",
    "Lines",
    "LocalPool",
    "Manifest",
    "Observer",
    "OnError",
    "OpenRun",
    "Output",
    "Part",
    "Passage",
    "Progress",
    "Record",
    "Rejected",
    "Rejects",
    "Setup",
    "Shard",
    "ShardFunction",
    "ShardStorage",
    "Task",
    "drive",
    "find_shards",
    "fingerprint_of",
    "finish_shard",
    "finished",
    "input_sha256",
    "join_parts",
    "my_tasks",
    "nobody",
    "open_destination",
    "open_passage",
    "open_run",
    "read_rejects",
    "read_shard",
    "read_weights",
    "refuse_equal_ids",
    "refuse_idle_hands",
    "refuse_idle_layout",
    "refuse_inside",
    "reject_line",
    "repeated",
    "task_here",
    "total",
    "weight_of",
    "write_weights",
]
