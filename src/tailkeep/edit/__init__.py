"""Edits of corpora: the tokens that a prior is sure of are drawn anew, everything else stays as it is."""

from tailkeep.optional import require

# Explained before the modules below fail on it.
require("transformers", extra="hf")

from tailkeep.data.corpus import Lines, Progress, Task, task_here  # noqa: E402
from tailkeep.edit.config import EditConfig, dump, load  # noqa: E402
from tailkeep.edit.estimate import Estimate, estimate  # noqa: E402
from tailkeep.edit.run import run  # noqa: E402
from tailkeep.edit.stats import Outcome  # noqa: E402

__all__ = [
    "EditConfig",
    "Estimate",
    "Lines",
    "Outcome",
    "Progress",
    "Task",
    "dump",
    "estimate",
    "load",
    "run",
    "task_here",
]
