"""The `tailkeep` command: it wires the rooms together, and nothing below it knows it.

Rule: results go to stdout, progress and messages to stderr, and a TailkeepError ends in one line and its exit code.
"""

import logging
import signal
import sys
from typing import Annotated

import typer

from tailkeep import __version__
from tailkeep.cli import audit, downstream, edit, forecast, kr_test, lab
from tailkeep.cli import report as reading
from tailkeep.cli.output import Redacted, guard_stdout, print_internal_error, print_interrupted, print_wrong_use
from tailkeep.errors import ExitCode, TailkeepError
from tailkeep.sanitize import redact, visible

app = typer.Typer(
    name="tailkeep",
    help="Keep the tail: reproduce, measure and mitigate model collapse.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


# typer brings click's exceptions along and exports this one alone: a BadParameter is a UsageError is a ClickException.
_WrongUse: type[Exception] = typer.BadParameter.__mro__[2]


def main() -> None:
    """Run the command line and exit with the code that says how it ended."""
    sys.excepthook = print_internal_error
    guard_stdout()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redacted("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        try:
            code = app(prog_name="tailkeep", standalone_mode=False)
        finally:
            sys.stdout.flush()
    except _WrongUse as error:
        print_wrong_use(error)
        sys.exit(ExitCode.BAD_INPUT)
    except KeyboardInterrupt:
        # One that came before typer listens, or while it ends.
        print_interrupted()
        sys.exit(ExitCode.INTERRUPTED)
    except TailkeepError as error:
        print(f"error: {visible(redact(str(error)))}", file=sys.stderr)
        sys.exit(error.exit_code)
    # typer turns an interrupt into its exit code and says nothing.
    if code == ExitCode.INTERRUPTED:
        print_interrupted()
    sys.exit(code)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


_COMMANDS = (
    lab.lab,
    edit.edit,
    audit.audit,
    forecast.forecast,
    audit.select,
    reading.report,
    reading.show,
    reading.card,
    lab.pack,
    lab.merge,
    lab.world,
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(kr_test.app)
app.add_typer(downstream.app)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
