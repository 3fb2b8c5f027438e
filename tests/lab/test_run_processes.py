"""The real command in real processes: killed, interrupted, and kept from each other's directories."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tailkeep import lab
from tests.lab.small_lab import outcome

# About two seconds of work on one core, most of it between cells.
TREE = {
    "learner": "gaussian",
    "generations": 101,
    "record_every": 10,
    "data": {"size": 1000, "chains": 100},
    "arms": {"baseline": {}, "accumulate": {"regime": {"name": "accumulate"}, "generations": 21}},
}
PATIENCE = 120.0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    lab.run(TREE, folder)
    return outcome(folder)


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def members(group: int) -> list[int]:
    """The living processes of a process group; those that are dead but not yet buried do not count."""
    result = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, member_of = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(member_of) == group and state != "Z":
            result.append(int(stat.parent.name))
    return result


@contextmanager
def command(folder: Path, *, workers: int, tree=TREE):
    """`tailkeep lab` at work in a process group of its own."""
    file = folder.with_suffix(".yaml")
    file.write_text(lab.dump(lab.load(tree)))
    arguments = ["lab", str(file), "--out", str(folder), "--workers", str(workers)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tailkeep", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test run in the background is started deaf to Ctrl-C, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with process:
        try:
            yield process
        finally:
            if members(process.pid):
                os.killpg(process.pid, signal.SIGKILL)


def finished(folder):
    return len(list(folder.glob("cells/*/*/*/DONE")))


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


@needs_proc
@pytest.mark.parametrize(
    ("workers", "cells"),
    [
        pytest.param(1, 0, marks=pytest.mark.slow),
        (1, 3),
        pytest.param(1, 12, marks=pytest.mark.slow),
        pytest.param(2, 1, marks=pytest.mark.slow),
        (2, 5),
    ],
)
def test_a_killed_command_leaves_no_process_behind_and_resumes_to_the_same_bytes(workers, cells, undisturbed, tmp_path):
    folder = tmp_path / "run"
    with command(folder, workers=workers) as process:
        wait_until(lambda: (folder / "cells").exists() and finished(folder) >= cells)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        wait_until(lambda: not members(process.pid))
    assert finished(folder) < 14, "killed too late to show anything"
    lab.run(TREE, folder)
    assert outcome(folder) == undisturbed


@needs_proc
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_command_ends_with_130_and_no_traceback_and_resumes_to_the_same_bytes(
    workers, number, undisturbed, tmp_path
):
    folder = tmp_path / "run"
    with command(folder, workers=workers) as process:
        wait_until(lambda: finished(folder) >= 2)
        # As a terminal does it: Ctrl-C reaches every process of the group.
        os.killpg(process.pid, number) if number is signal.SIGINT else process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        assert "Traceback" not in said
        wait_until(lambda: not members(process.pid))
    lab.run(TREE, folder)
    assert outcome(folder) == undisturbed


def test_a_second_command_on_a_live_directory_is_refused_and_changes_nothing(tmp_path):
    folder = tmp_path / "run"
    endless = {**TREE, "generations": 10**6, "record_every": 10**6, "arms": {"baseline": {}}}
    with command(folder, workers=1, tree=endless):
        wait_until(lambda: (folder / "cells" / "baseline" / "0" / "0" / "DONE").exists())
        before = outcome(folder)
        with command(folder, workers=1, tree=endless) as second:
            _, said = second.communicate(timeout=PATIENCE)
        assert second.returncode == 2
        assert f"another process is at work on {folder}" in said
        assert "Traceback" not in said
        assert outcome(folder) == before
