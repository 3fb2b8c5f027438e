"""A real full disk and a real read-only one, see `tests.runs.test_full_disk`."""

import pytest

from tests.edit.test_full_disk import FULL, READ_ONLY
from tests.runs.test_full_disk import on_small_disk


def of_audit(script):
    return script.replace("from tailkeep.edit import run", "from tailkeep.audit import run")


@pytest.mark.slow
def test_a_full_disk_is_one_clear_error_and_a_rerun_finishes(corpus, tmp_path):
    on_small_disk(of_audit(FULL).format(ballast=56, corpus=str(corpus / "a.jsonl"), config={}), tmp_path)


@pytest.mark.slow
def test_a_read_only_disk_is_one_clear_error_and_changes_nothing(corpus, tmp_path):
    on_small_disk(of_audit(READ_ONLY).format(corpus=str(corpus / "c.txt"), config={}), tmp_path)
