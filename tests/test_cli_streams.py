"""The standard output of the command: a reader that goes away is no error, a full disk is one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "tailkeep", "lab", "--help"]
ENVIRONMENT = {**os.environ, "COLUMNS": "400"}


def test_a_reader_that_goes_away_ends_the_command_well():
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(COMMAND, stdout=writing, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False, text=True)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_below_the_output_is_one_line():
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(COMMAND, stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False, text=True)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "error: cannot write to the standard output: No space left on device. Free the disk, or send it elsewhere."
    ]
