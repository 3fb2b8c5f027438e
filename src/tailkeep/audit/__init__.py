"""Audits of corpora: what a corpus is made of, how it differs from trusted text, and what that means for training.

Rule: without a prior nothing here needs torch.
"""

from tailkeep.audit.config import AuditConfig, dump, load
from tailkeep.audit.recommend import Advice, plan
from tailkeep.audit.run import AuditOutcome, gpus_for, run
from tailkeep.audit.select import SelectionCounts, select
from tailkeep.data.corpus import Progress, ProgressPrinter, Task, task_here

__all__ = [
    "Advice",
    "AuditConfig",
    "AuditOutcome",
    "Progress",
    "ProgressPrinter",
    "SelectionCounts",
    "Task",
    "dump",
    "gpus_for",
    "load",
    "plan",
    "run",
    "select",
    "task_here",
]
