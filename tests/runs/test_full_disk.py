"""A real full disk and a real read-only one: a tmpfs in a mount namespace that vanishes with its process."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MOUNT = 'mount -t tmpfs -o size=256k none "$1" && shift && exec "$@"'

FULL = """
import sys
from pathlib import Path
from tailkeep.errors import StorageError
from tests.runs.faults import content
from tests.runs.small_run import TIMINGS, run

disk = Path(sys.argv[1])
(disk / "ballast").write_bytes(bytes({ballast} * 4096))
try:
    run(disk / "run")
except StorageError as error:
    assert "No space left on device" in str(error), error
else:
    raise AssertionError("the disk was large enough")
(disk / "ballast").unlink()
run(disk / "run")
run(Path(sys.argv[2]))
assert content(disk / "run", without=TIMINGS) == content(Path(sys.argv[2]), without=TIMINGS)
"""

READ_ONLY = """
import subprocess, sys
from pathlib import Path
from tailkeep.errors import InputError
from tailkeep.runs import RunDirectory
from tests.runs.faults import content
from tests.runs.small_run import RECORD, run

disk = Path(sys.argv[1])
(disk / "empty").mkdir()
run(disk / "run")
before = content(disk)
subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
for folder in ("run", "empty", "new"):
    try:
        run(disk / folder)
    except InputError as error:
        assert "Read-only file system. Give a folder that can be written." in str(error), error
    else:
        raise AssertionError("the disk was written")
assert content(disk) == before
assert RunDirectory.open(disk / "run").record == RECORD
"""


def on_small_disk(code, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no `unshare` on this machine to mount a small disk with")
    enter = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh", str(disk)]
    if subprocess.run([*enter, "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    python = [sys.executable, "-c", code, str(disk), str(tmp_path / "elsewhere")]
    ended = subprocess.run([*enter, *python], check=False, capture_output=True, text=True, cwd=REPOSITORY)
    assert ended.returncode == 0, ended.stderr


# 256 KiB are 64 pages; each file and folder of the run takes one, the log files at its end too.
@pytest.mark.parametrize("ballast", [64, 60, 55, 50])
def test_a_full_disk_is_one_clear_error_and_a_rerun_finishes(ballast, tmp_path):
    on_small_disk(FULL.format(ballast=ballast), tmp_path)


def test_a_read_only_disk_is_one_clear_error_and_can_be_read(tmp_path):
    on_small_disk(READ_ONLY, tmp_path)
