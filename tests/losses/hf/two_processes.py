"""One of two processes on gloo: python -m tests.losses.hf.two_processes WRAPPING TIED MEETING RANK.

Attaches, wraps, takes one step on this rank's half of a batch, and compares every gradient with that of the unfused
loss of the whole batch, computed here alone.
"""

import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.parallel import DistributedDataParallel

from tailkeep.losses.hf.attach import attach, read_stats
from tests.losses.hf.families import tiny
from tests.losses.hf.unfused import Trained, batch, halving_threshold, unfused, worst


def wrapped(model, wrapping: str) -> nn.Module:
    if wrapping == "ddp":
        return DistributedDataParallel(model)
    if wrapping == "fsdp1":
        return FullyShardedDataParallel(
            model,
            device_id=torch.device("cpu"),
            auto_wrap_policy=ModuleWrapPolicy({type(model.model.layers[0])}),
            use_orig_params=True,
        )
    for layer in model.model.layers:
        fully_shard(layer)
    if wrapping == "fsdp2_head":
        fully_shard(model.lm_head)
    return fully_shard(model)


def full_gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    if isinstance(model, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(model, with_grads=True):
            return {
                name.replace("_fsdp_wrapped_module.", ""): p.grad.clone()
                for name, p in model.named_parameters()
                if p.grad is not None
            }
    return {
        name.removeprefix("module."): p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad
        for name, p in model.named_parameters()
        if p.grad is not None
    }


def main(wrapping: str, tied: bool, meeting: str, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    whole = batch(rows=4)
    # Ranks with unlike numbers of targets, so that a mean of means would be wrong.
    whole["labels"][0, :12] = -100
    model = tiny("llama", tie_word_embeddings=tied)
    threshold = halving_threshold(model, whole)
    expected = unfused(model, whole, threshold=threshold)
    attach(model, threshold=threshold)
    model = wrapped(model, wrapping)
    mine = {name: tensor[2 * rank : 2 * rank + 2] for name, tensor in whole.items()}
    items = (whole["labels"][:, 1:] != -100).sum()
    for _ in range(2):
        model.zero_grad()
        loss = 2 * model(**mine, num_items_in_batch=items).loss  # both wrappers average over the two ranks
        loss.backward()
        total = loss.detach() / 2
        dist.all_reduce(total)
        torch.testing.assert_close(total, expected.loss, rtol=1e-6, atol=0)
        error = worst(Trained(total, full_gradients(model)), expected)
        assert error < 5e-6, error
    assert 0.2 < read_stats(model)["kept_fraction"] < 0.8
    if rank == 0:
        print(f"{wrapping} tied={tied}: {error:.1e}")
    dist.barrier()
    dist.destroy_process_group()
    # DDP's reducer outlives the group, and joins gloo's thread with Python's lock held, for which that thread may be
    # waiting to drop a tensor (seen once, torch 2.13). So nothing is taken down here.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "1", sys.argv[3], int(sys.argv[4]))
