"""Edits of corpora: the tokens that a prior is confident of are resampled, everything else stays as it is."""

from tailkeep.optional import require

# Explained before the modules below fail on it.
require("transformers", extra="hf")

from tailkeep.data.corpus import Task, task_here  # noqa: E402
from tailkeep.data.corpus import dump_config as dump  # noqa: E402
from tailkeep.edit.config import EditConfig, load  # noqa: E402
from tailkeep.edit.run import EditEstimate, estimate, gpus_for, run  # noqa: E402
from tailkeep.edit.stats import EditOutcome  # noqa: E402
from tailkeep.runs import Progress, ProgressPrinter  # noqa: E402

__all__ = [
    "EditConfig",
    "EditEstimate",
    "EditOutcome",
    "Progress",
    "ProgressPrinter",
    "Task",
    "dump",
    "estimate",
    "gpus_for",
    "load",
    "run",
    "task_here",
]
