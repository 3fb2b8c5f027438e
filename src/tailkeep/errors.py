"""Every error that a user can cause. Each is also a standard exception and knows its exit code.

A message has three parts: what is wrong, the value received, what to do.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the `tailkeep` command returns to the shell."""

    DONE = 0
    INTERNAL_ERROR = 1
    BAD_INPUT = 2
    OTHER_FINGERPRINT = 3
    DONE_WITH_REJECTS = 4  # of a corpus command
    CONDITION_MET = 5  # of --fail-if
    INTERRUPTED = 130


class TailkeepError(Exception):
    """The root: catch it to catch everything that tailkeep raises on purpose."""

    exit_code: ExitCode = ExitCode.BAD_INPUT


class ConfigError(TailkeepError, ValueError):
    """A configuration key or value that cannot be used."""


class CodeError(TailkeepError, RuntimeError):
    """An exception that code of the user's own raised; it is the cause."""


class InputError(TailkeepError, ValueError):
    """A file or folder that cannot be read as what it is given for."""


class MissingPackageError(TailkeepError, ImportError):
    """An optional package that is not installed."""


class FingerprintError(TailkeepError, RuntimeError):
    """A directory that holds the run of another configuration."""

    exit_code = ExitCode.OTHER_FINGERPRINT


class BusyError(TailkeepError, RuntimeError):
    """A directory on which another process is at work."""


class StorageError(TailkeepError, OSError):
    """A write that the file system refused."""


class WorkerError(TailkeepError, RuntimeError):
    """A worker process was killed."""


class TrainingError(TailkeepError, ArithmeticError):
    """A fit that produced no usable model, such as a loss that is not finite."""


class AttachmentError(TailkeepError, RuntimeError):
    """A model that is trained past the loss attached to it."""
