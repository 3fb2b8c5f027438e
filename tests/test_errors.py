import inspect

import pytest

from tailkeep import errors
from tailkeep.errors import ExitCode, TailkeepError

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, TailkeepError) and kind is not TailkeepError
]
STANDARD = {
    "AttachmentError": (RuntimeError, ExitCode.BAD_INPUT),
    "CodeError": (RuntimeError, ExitCode.BAD_INPUT),
    "ConfigError": (ValueError, ExitCode.BAD_INPUT),
    "InputError": (ValueError, ExitCode.BAD_INPUT),
    "MissingPackageError": (ImportError, ExitCode.BAD_INPUT),
    "FingerprintError": (RuntimeError, ExitCode.OTHER_FINGERPRINT),
    "BusyError": (RuntimeError, ExitCode.BAD_INPUT),
    "StorageError": (OSError, ExitCode.BAD_INPUT),
    "TrainingError": (ArithmeticError, ExitCode.BAD_INPUT),
    "WorkerError": (RuntimeError, ExitCode.BAD_INPUT),
}


def test_every_error_has_its_standard_exception_and_exit_code():
    found = {kind.__name__: (kind.__mro__[2], kind.exit_code) for kind in KINDS}
    assert found == STANDARD


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_caught_as_tailkeeps_and_keeps_its_words(kind):
    with pytest.raises(TailkeepError) as caught:
        raise kind("what is wrong. What to do.")
    assert str(caught.value) == "what is wrong. What to do."


def test_exit_codes_are_what_the_shell_is_promised():
    assert {code.name: int(code) for code in ExitCode} == {
        "CONDITION_MET": 5,
        "DONE": 0,
        "INTERNAL_ERROR": 1,
        "BAD_INPUT": 2,
        "OTHER_FINGERPRINT": 3,
        "DONE_WITH_REJECTS": 4,
        "INTERRUPTED": 130,
    }


def test_a_failed_write_is_caught_as_an_os_error_and_no_bad_value():
    assert issubclass(errors.StorageError, OSError)
    assert not issubclass(errors.StorageError, ValueError)
