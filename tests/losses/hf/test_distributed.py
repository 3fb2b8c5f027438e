"""Two processes under DDP, FSDP1 and FSDP2 have the gradients of one process with both of their batches."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from tailkeep.errors import AttachmentError
from tailkeep.losses.hf.attach import attach
from tests.losses.hf.families import tiny
from tests.losses.hf.unfused import batch

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


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_fsdp_around_the_output_layer_alone_is_refused_by_its_name(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        model = attach(tiny("llama"), threshold=0.5)
        wrapped = FullyShardedDataParallel(
            model, device_id=torch.device("cpu"), auto_wrap_policy=ModuleWrapPolicy({type(model.lm_head)})
        )
        with pytest.raises(AttachmentError, match=r"FSDP wraps the output layer of .* alone.*auto_wrap_policy"):
            wrapped(**batch())
    finally:
        dist.destroy_process_group()
