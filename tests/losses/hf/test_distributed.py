"""Two processes under DDP, FSDP1 and FSDP2 have the gradients of one process with both of their batches."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("wrapping", ["ddp", "fsdp1", "fsdp2", "fsdp2_head"])
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_are_those_of_one_process(wrapping, tied, tmp_path: Path):
    if wrapping == "fsdp2_head" and tied:
        pytest.skip("a weight that two modules share cannot be sharded apart from one of them")
    module = "tests.losses.hf.two_processes"
    command = [sys.executable, "-m", module, wrapping, str(int(tied)), str(tmp_path / "meeting")]
    workers = [subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True) for rank in range(2)]
    try:
        errors = [worker.communicate(timeout=180)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)
