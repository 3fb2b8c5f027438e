"""A real full disk and a real read-only one, see `tests.runs.test_full_disk`."""

import pytest

from tests.runs.test_full_disk import on_small_disk

FULL = """
import sys
from pathlib import Path
from tailkeep.edit import run
from tailkeep.errors import TailkeepError
from tests.edit.conftest import left_by

disk, corpus = Path(sys.argv[1]), {corpus!r}
config = {config!r}
(disk / "ballast").write_bytes(bytes({ballast} * 4096))
try:
    run(config, corpus, disk / "out")
except TailkeepError as error:
    assert "No space left on device" in str(error), error
else:
    raise AssertionError("the disk was large enough")
(disk / "ballast").unlink()
run(config, corpus, disk / "out")
run(config, corpus, sys.argv[2])
assert left_by(disk / "out") == left_by(Path(sys.argv[2]))
"""

READ_ONLY = """
import subprocess, sys
from pathlib import Path
from tailkeep.edit import run
from tailkeep.errors import InputError
from tests.edit.conftest import left_by

disk, corpus = Path(sys.argv[1]), {corpus!r}
config = {config!r}
(disk / "empty").mkdir()
run(config, corpus, disk / "out")
before = left_by(disk)
subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
for folder in ("out", "empty", "new"):
    try:
        run(config, corpus, disk / folder)
    except InputError as error:
        assert "Read-only file system. Give a folder that can be written." in str(error), error
    else:
        raise AssertionError("the disk was written")
assert left_by(disk) == before
"""


# 64 pages in all; those that are left are enough for nothing, for the record, and for a shard or two.
@pytest.mark.parametrize("ballast", [56, *(pytest.param(pages, marks=pytest.mark.slow) for pages in (64, 61, 48))])
def test_a_full_disk_is_one_clear_error_and_a_rerun_finishes(ballast, corpus, config, tmp_path):
    on_small_disk(FULL.format(ballast=ballast, corpus=str(corpus), config=config), tmp_path)


@pytest.mark.slow
def test_a_read_only_disk_is_one_clear_error_and_changes_nothing(corpus, config, tmp_path):
    on_small_disk(READ_ONLY.format(corpus=str(corpus / "c.txt"), config=config), tmp_path)
