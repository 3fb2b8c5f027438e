"""Run directories: the interface between the rooms. Lab, edit and audit write them; report reads them."""

from tailkeep.runs.cell import Cell
from tailkeep.runs.directory import RunDirectory
from tailkeep.runs.fingerprint import differences, hash_path, hash_tree, versions
from tailkeep.runs.record import RunRecord
from tailkeep.runs.storage import Storage
from tailkeep.sanitize import redact, redact_tree

__all__ = [
    "Cell",
    "RunDirectory",
    "RunRecord",
    "Storage",
    "differences",
    "hash_path",
    "hash_tree",
    "redact",
    "redact_tree",
    "versions",
]
