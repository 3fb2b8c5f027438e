"""One process at a time, shown with real processes: `hold` keeps a directory until it is told or killed."""

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tailkeep.errors import BusyError
from tailkeep.runs import RunDirectory
from tests.runs.faults import content
from tests.runs.small_run import CONFIG, RECORD, run

REPOSITORY = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from tailkeep.runs import RunDirectory
from tests.runs.small_run import CONFIG, RECORD
with RunDirectory.create(Path(sys.argv[1]), RECORD, config=CONFIG) as directory:
    partial = directory.generation_dir("baseline", 0, 0).path / "model.partial"
    partial.mkdir(parents=True)
    (partial / "weights").write_bytes(b"half")
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    with process:
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_process_on_a_live_directory_is_refused_and_changes_nothing(tmp_path):
    folder = tmp_path / "run"
    with holder(folder):
        before = content(folder)
        with pytest.raises(BusyError, match="another process is at work on") as caught:
            run(folder)
        assert str(folder) in str(caught.value)
        assert content(folder) == before


def test_a_live_directory_can_be_read(tmp_path):
    with holder(tmp_path / "run"):
        assert RunDirectory.open(tmp_path / "run").record == RECORD


def test_the_lock_vanishes_with_a_killed_process_and_the_run_resumes(tmp_path):
    folder = tmp_path / "run"
    with holder(folder) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    run(folder)
    run(tmp_path / "undisturbed")
    assert content(folder) == content(tmp_path / "undisturbed")


def test_a_process_that_ends_leaves_the_directory_free(tmp_path):
    with holder(tmp_path / "run") as process:
        process.stdin.close()
        assert process.wait() == 0
    run(tmp_path / "run")


def test_one_process_cannot_hold_a_directory_twice(tmp_path):
    with (
        RunDirectory.create(tmp_path, RECORD, config=CONFIG),
        pytest.raises(BusyError),
        RunDirectory.create(tmp_path, RECORD, config=CONFIG),
    ):
        pass


def test_an_error_inside_leaves_the_directory_free(tmp_path):
    def fail():
        with RunDirectory.create(tmp_path / "run", RECORD, config=CONFIG):
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    run(tmp_path / "run")
