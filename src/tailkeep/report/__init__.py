"""Reports: one self-contained HTML page, figures and tables from any run directory, and a summary for the terminal."""

from tailkeep.report.audit import show_audit, write_audit
from tailkeep.report.edit import show_edits
from tailkeep.report.edit_page import write_edits
from tailkeep.report.forecast import show_forecast, write_forecast
from tailkeep.report.lab.card import model_card
from tailkeep.report.lab.page import write
from tailkeep.report.lab.stats import ArmSummary, FailureSummary, GroupSummary, MetricSummary, Summary, summarise
from tailkeep.report.lab.terminal import print_summary, show

__all__ = [
    "ArmSummary",
    "FailureSummary",
    "GroupSummary",
    "MetricSummary",
    "Summary",
    "model_card",
    "print_summary",
    "show",
    "show_audit",
    "show_edits",
    "show_forecast",
    "summarise",
    "write",
    "write_audit",
    "write_edits",
    "write_forecast",
]
