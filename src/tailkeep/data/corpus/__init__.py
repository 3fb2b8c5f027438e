"""Corpora of any size: shards in and out, their manifests, and who works on them."""

from tailkeep.data.corpus.destination import Bucket, Destination, Folder, Output, ShardStorage, open_destination
from tailkeep.data.corpus.executors import Executor, LocalPool, WorkerSetup
from tailkeep.data.corpus.formats import format_of
from tailkeep.data.corpus.job import (
    Execution,
    Inputs,
    JobConfig,
    RunOutcome,
    ShardJob,
    dump_config,
    path_list,
    run_job,
)
from tailkeep.data.corpus.manifest import (
    Manifest,
    ShardFunction,
    fingerprint_of,
    finish_shard,
    read_finished,
    sum_counts,
)
from tailkeep.data.corpus.output_run import (
    Contents,
    OutputRun,
    Rejects,
    check_unique_ids_of_run,
    find_duplicates,
    join_finished_parts,
)
from tailkeep.data.corpus.sample_weights import read_weights, repeat_count, weight_of, write_weights
from tailkeep.data.corpus.schema import Chat, Content, Layout, Record, Rejected, TextField
from tailkeep.data.corpus.shard_io import (
    EMPTY,
    OnError,
    ShardIO,
    check_layout_has_effect,
    open_shard_io,
    read_objects,
    read_shard,
    read_stream,
    reject_line,
)
from tailkeep.data.corpus.shards import Shard, ShardList, Task, find_shards, shards_of_task, task_here
from tailkeep.data.corpus.sides import CorpusSide, SummaryOutcome, find_sides
from tailkeep.data.corpus.unique_ids import check_unique_ids

__all__ = [
    "EMPTY",
    "Bucket",
    "Chat",
    "Content",
    "Contents",
    "CorpusSide",
    "Destination",
    "Execution",
    "Executor",
    "Folder",
    "Inputs",
    "JobConfig",
    "Layout",
    "LocalPool",
    "Manifest",
    "OnError",
    "Output",
    "OutputRun",
    "Record",
    "Rejected",
    "Rejects",
    "RunOutcome",
    "Shard",
    "ShardFunction",
    "ShardIO",
    "ShardJob",
    "ShardList",
    "ShardStorage",
    "SummaryOutcome",
    "Task",
    "TextField",
    "WorkerSetup",
    "check_layout_has_effect",
    "check_unique_ids",
    "check_unique_ids_of_run",
    "dump_config",
    "find_duplicates",
    "find_shards",
    "find_sides",
    "fingerprint_of",
    "finish_shard",
    "format_of",
    "join_finished_parts",
    "open_destination",
    "open_shard_io",
    "path_list",
    "read_finished",
    "read_objects",
    "read_shard",
    "read_stream",
    "read_weights",
    "reject_line",
    "repeat_count",
    "run_job",
    "shards_of_task",
    "sum_counts",
    "task_here",
    "weight_of",
    "write_weights",
]
