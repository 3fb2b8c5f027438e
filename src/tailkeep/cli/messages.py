"""What the command says beside its results. Rule: no credential, and no character that a terminal would obey."""

import logging
import sys
import traceback
from types import TracebackType

from tailkeep.redaction import redact
from tailkeep.visible import visible


def tell(line: str) -> None:
    """A line on stderr."""
    print(line, file=sys.stderr, flush=True)


def tell_interrupted() -> None:
    """How to go on after Ctrl-C."""
    tell("interrupted: run the same command again to go on from what is finished.")


class Redacted(logging.Formatter):
    """Log lines without credentials and without characters that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        """The line as it may be shown."""
        return visible(redact(super().format(record)))


def print_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A fault of ours: its traceback, shown as safely as a log line. Python then exits with 1."""
    print(visible(redact("".join(traceback.format_exception(kind, error, trace)))), file=sys.stderr, end="")
