"""Reports: one self-contained HTML page, figures and tables from any run directory, and a summary for the terminal."""

from tailkeep.report.audit_page import show_audit, write_audit
from tailkeep.report.edit_page import write_edits
from tailkeep.report.edits import show_edits
from tailkeep.report.files import write
from tailkeep.report.summary import (
    ArmSummary,
    FailureSummary,
    GroupSummary,
    MetricSummary,
    Summary,
    summarise,
)
from tailkeep.report.terminal import print_summary, show

__all__ = [
    "ArmSummary",
    "FailureSummary",
    "GroupSummary",
    "MetricSummary",
    "Summary",
    "print_summary",
    "show",
    "show_audit",
    "show_edits",
    "summarise",
    "write",
    "write_audit",
    "write_edits",
]
