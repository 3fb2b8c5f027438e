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


@pytest.mark.parametrize(("options", "code"), [([], 4), (["--fail-if", "exact_duplicates_share>=0"], 5)])
def test_a_reader_that_goes_away_changes_no_exit_code(options, code, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "one"}\nnone\n')
    command = [*COMMAND[:3], "audit", "--input", str(tmp_path / "x.jsonl"), "--on-error", "skip"]
    reading, writing = os.pipe()
    os.close(reading)
    command += ["--out", str(tmp_path / "out"), *options]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False, text=True)
    os.close(writing)
    assert ended.returncode == code
    assert "rejected: 1 documents" in ended.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_also_where_a_condition_would_be_judged(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "one"}\n')
    command = [*COMMAND[:3], "audit", "--input", str(tmp_path / "x.jsonl"), "--out", str(tmp_path / "out")]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*command, "--fail-if", "exact_duplicates_share>=0"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
        )
    assert ended.returncode == 2
    assert "cannot write to the standard output: No space left on device" in ended.stderr
