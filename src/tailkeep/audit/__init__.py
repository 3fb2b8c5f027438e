"""Audits: describe a corpus, test how it differs from trusted text, and say what that means for training.

Rule: without a prior nothing in this package needs torch.
"""

from tailkeep.audit.config import AuditConfig, Condition, load, parse_condition
from tailkeep.audit.recommend import Advice, plan_mixing
from tailkeep.audit.run import gpus_for, run
from tailkeep.audit.select import SelectionCounts, select
from tailkeep.audit.summary import AuditOutcome
from tailkeep.data.corpus import Task, task_here
from tailkeep.data.corpus import dump_config as dump
from tailkeep.runs import Progress, ProgressPrinter

__all__ = [
    "Advice",
    "AuditConfig",
    "AuditOutcome",
    "Condition",
    "Progress",
    "ProgressPrinter",
    "SelectionCounts",
    "Task",
    "dump",
    "gpus_for",
    "load",
    "parse_condition",
    "plan_mixing",
    "run",
    "select",
    "task_here",
]
