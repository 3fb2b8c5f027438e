"""What the command says beside its results. Rule: no credential, and no character that a terminal would obey."""

import logging
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Annotated

import typer

from tailkeep.sanitize import redact, visible


def print_status(line: str) -> None:
    """A line on stderr."""
    print(line, file=sys.stderr, flush=True)


def print_interrupted() -> None:
    """How to go on after Ctrl-C."""
    print_status("interrupted: run the same command again to go on from what is finished.")


class Redacted(logging.Formatter):
    """Log lines without credentials and without characters that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        """The line as it may be shown."""
        return visible(redact(super().format(record)))


def print_internal_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An internal error: its traceback, shown as safely as a log line. Python then exits with 1."""
    print(visible(redact("".join(traceback.format_exception(kind, error, trace)))), file=sys.stderr, end="")


# Where a command that prints a table writes its figures. Rule: refused before anything is computed.


def _is_a_file(out: Path | None) -> Path | None:
    if out is not None and out.is_dir():
        raise typer.BadParameter(f"{out} is a folder. Give a file.")
    return out


FiguresFile = Annotated[
    Path | None, typer.Option(metavar="FILE", callback=_is_a_file, help="Also write all figures as JSON.")
]
"""Where figures go, None for nowhere."""
