"""After a fault at any operation of a whole run, a plain rerun ends in the bytes of an undisturbed one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tailkeep.runs import RunDirectory
from tests.runs.faults import EXIT_STATUS, Fault, FaultyStorage, content, count_operations, every_fault, interrupt
from tests.runs.small_run import TIMINGS, run

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    total = count_operations(lambda storage: run(folder, storage))
    return total, content(folder, without=TIMINGS)


def check_what_is_readable(folder):
    """Whatever has its final name is whole, at any moment."""
    if not (folder / "run.json").exists():
        return
    for cell in RunDirectory.open(folder).generation_dirs(only_done=False):
        cell.timings()
        if cell.model.exists():
            assert {path.name for path in cell.model.iterdir()} == {"config.json", "weights"}
            assert len((cell.model / "weights").read_bytes()) == 32
        if cell.done:
            assert cell.metrics()["metrics"] == {"nll": 2.0 + cell.generation}
    for name in ("metrics.jsonl", "timings.jsonl"):
        if (folder / name).exists():
            assert len([json.loads(line) for line in (folder / name).read_text().splitlines()]) == 4


@pytest.mark.parametrize("kind", ["full", "read-only", "killed"])
def test_a_rerun_after_any_fault_ends_in_the_same_bytes(kind, undisturbed, tmp_path):
    total, expected = undisturbed
    for fault in every_fault(total, (kind,)):
        folder = tmp_path / f"{fault.n}-{fault.half}"
        interrupt(lambda storage, folder=folder: run(folder, storage), fault)
        check_what_is_readable(folder)
        run(folder, FaultyStorage())
        assert content(folder, without=TIMINGS) == expected, fault


def test_two_faults_in_a_row_are_repaired_too(undisturbed, tmp_path):
    total, expected = undisturbed
    for n in range(1, total, 7):
        folder = tmp_path / str(n)
        interrupt(lambda storage, folder=folder: run(folder, storage), Fault(n, "killed", half=True))
        interrupt(lambda storage, folder=folder: run(folder, storage), Fault(1, "full", half=True))
        run(folder, FaultyStorage())
        assert content(folder, without=TIMINGS) == expected, n


def test_a_finished_run_that_is_run_again_keeps_its_bytes(undisturbed, tmp_path):
    run(tmp_path / "run")
    run(tmp_path / "run")
    assert content(tmp_path / "run", without=TIMINGS) == undisturbed[1]


def test_a_process_that_really_dies_at_an_operation_is_repaired(undisturbed, tmp_path):
    total, expected = undisturbed
    code = (
        "import sys; from pathlib import Path; from tests.runs.faults import with_fault; from tests.runs.small_run "
        "import run; run(Path(sys.argv[1]), with_fault(int(sys.argv[2]), 'exit', half=True))"
    )
    for n in (total // 3, 2 * total // 3):
        folder = tmp_path / str(n)
        ended = subprocess.run([sys.executable, "-c", code, str(folder), str(n)], check=False, cwd=REPOSITORY)
        assert ended.returncode == EXIT_STATUS
        run(folder, FaultyStorage())
        assert content(folder, without=TIMINGS) == expected, n
