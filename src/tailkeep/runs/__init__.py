"""Run directories: the interface between the rooms. Lab, edit and audit write them; report reads them."""

from tailkeep.runs.directory import RunDirectory
from tailkeep.runs.generation_dir import GenerationDir
from tailkeep.runs.progress import LoopProgress, Progress, ProgressObserver, ProgressPrinter, no_progress, track_loop
from tailkeep.runs.record import (
    Addition,
    RunRecord,
    differences,
    hash_path,
    hash_tree,
    read_sealed,
    sealed_text,
    utc_now,
    versions,
)
from tailkeep.runs.storage import Storage, csv_text
from tailkeep.sanitize import redact, redact_tree

__all__ = [
    "Addition",
    "GenerationDir",
    "LoopProgress",
    "Progress",
    "ProgressObserver",
    "ProgressPrinter",
    "RunDirectory",
    "RunRecord",
    "Storage",
    "csv_text",
    "differences",
    "hash_path",
    "hash_tree",
    "no_progress",
    "read_sealed",
    "redact",
    "redact_tree",
    "sealed_text",
    "track_loop",
    "utc_now",
    "versions",
]
