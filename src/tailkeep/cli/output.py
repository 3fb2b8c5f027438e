"""What the command says beside its results. Rule: no credential, and no character that a terminal would obey."""

import io
import logging
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer

from tailkeep.errors import StorageError
from tailkeep.runs.progress import print_status
from tailkeep.sanitize import redact, visible


class _Output(io.FileIO):
    """The standard output. A reader that has gone, such as `head`, changes no exit code; a full disk is an error."""

    _is_closed_there = False

    def write(self, data: Any) -> int:
        """Write `data`, or drop it once the reader has gone."""
        if not self._is_closed_there:
            try:
                return super().write(data) or 0
            except BrokenPipeError:
                self._is_closed_there = True
            except OSError as error:
                self._is_closed_there = True
                raise StorageError(
                    f"cannot write to the standard output: {error.strerror}. Free the disk, or send it elsewhere."
                ) from None
        return len(data)


def guard_stdout() -> None:
    """Let what goes wrong with the standard output end in one line at most, if it is the process' own."""
    stdout = sys.stdout
    if type(stdout) is io.TextIOWrapper:
        buffer = io.BufferedWriter(_Output(stdout.fileno(), "wb", closefd=False))
        sys.stdout = io.TextIOWrapper(buffer, stdout.encoding, stdout.errors, line_buffering=stdout.line_buffering)


def print_interrupted() -> None:
    """How to go on after Ctrl-C."""
    print_status("interrupted: run the same command again to go on from what is finished.")


def print_wrong_use(error: Any) -> None:
    """A wrong option, argument or command, as typer found it, in one line."""
    if message := error.format_message():
        line = message if message.endswith((".", "?")) else f"{message}."
        words = message.rpartition(" (")[2].rstrip(").").split() if "extra argument" in message else []
        if any(Path(word).exists() for word in words):
            line += " Put a glob in quotes, such as 'data/*.jsonl', so that the shell leaves it alone."
        if context := getattr(error, "ctx", None):
            line = f"{line} See {context.command_path} --help."
        print(f"error: {visible(redact(line), newline=' ')}", file=sys.stderr)


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
