"""After a fault at any operation of a whole laboratory run, a plain rerun ends in the bytes of an undisturbed one."""

import shutil

import pytest

from tests.lab.small_lab import outcome, run
from tests.runs.faults import Fault, FaultyStorage, count_operations, every_fault, interrupt

KINDS = ["full", "read-only", "killed"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    total = count_operations(lambda storage: run(folder, storage))
    return total, outcome(folder)


def check(faults, undisturbed, tmp_path):
    _, expected = undisturbed
    for fault in faults:
        folder = tmp_path / f"{fault.n}-{fault.half}"
        interrupt(lambda storage, folder=folder: run(folder, storage), fault)
        run(folder)
        assert outcome(folder) == expected, fault
        shutil.rmtree(folder)  # thousands of them would fill the disk, and slow down whoever sweeps it


@pytest.mark.parametrize("kind", KINDS)
def test_a_rerun_after_a_fault_here_and_there_ends_in_the_same_bytes(kind, undisturbed, tmp_path):
    check(every_fault(undisturbed[0], (kind,), step=29), undisturbed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_rerun_after_a_fault_at_any_operation_ends_in_the_same_bytes(kind, undisturbed, tmp_path):
    check(every_fault(undisturbed[0], (kind,)), undisturbed, tmp_path)


def test_a_run_that_is_struck_again_while_it_resumes_is_repaired_too(undisturbed, tmp_path):
    total, expected = undisturbed
    for n in range(5, total, total // 6):
        folder = tmp_path / str(n)
        interrupt(lambda storage, folder=folder: run(folder, storage), Fault(n, "killed", half=True))
        interrupt(lambda storage, folder=folder: run(folder, storage), Fault(2, "full", half=True))
        run(folder)
        assert outcome(folder) == expected, n


def test_no_temporary_name_is_left_in_an_undisturbed_run(undisturbed):
    assert [name for name in undisturbed[1] if name.endswith(".partial")] == []


def test_everything_that_a_run_writes_goes_through_the_storage(tmp_path):
    storage = FaultyStorage()
    run(tmp_path / "run", storage)
    renamed = {path for name, path in storage.log if name in {"rename", "make"}}
    filled = {path.with_name(path.name.removesuffix(".partial")) for name, path in storage.log if name == "fill"}
    for path in (tmp_path / "run").rglob("*"):
        known = path in renamed or any(folder in path.parents for folder in filled)
        assert known or path.name == ".lock", path
