"""One of two processes under DeepSpeed: python -m tests.losses.hf.deepspeed_rank STAGE ORDER TIED FOLDER RANK.

ORDER says when the loss is attached: `before` deepspeed.initialize, `after` it, or to a model that from_pretrained has
loaded partitioned (`init`). Each rank takes two steps on its half of a batch and compares every gradient with that of
the unfused loss of the whole batch, computed here alone.
"""

import os
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM

from tailkeep.losses.hf.attach import attach, read_stats
from tests.losses.hf.families import tiny
from tests.losses.hf.unfused import Trained, batch, halving_threshold, unfused, worst

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import deepspeed
    from deepspeed.utils import safe_get_full_grad
    from transformers.integrations import HfDeepSpeedConfig


def configuration(stage: int) -> dict:
    return {
        "train_batch_size": 4,
        "train_micro_batch_size_per_gpu": 2,
        "optimizer": {"type": "SGD", "params": {"lr": 0.0}},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        # Without a threshold tiny parameters would stay whole.
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
    }


def partitioned(model, folder: Path, config: dict):
    """`model`, saved and loaded as users of ZeRO-3 do; the second value must live as long as the first."""
    if dist.get_rank() == 0:
        model.save_pretrained(folder / "model")
    dist.barrier()
    keeper = HfDeepSpeedConfig(config)
    loaded = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).train()
    assert loaded.lm_head.weight.shape == (0,)
    return loaded, keeper


def main(stage: int, order: str, tied: bool, folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE="2")
    meeting = {"init_method": f"file://{folder}/meeting", "rank": rank, "world_size": 2}
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False, verbose=False, **meeting)
    whole = batch(rows=4)
    # Ranks with unlike numbers of targets, so that a mean of means would be wrong.
    whole["labels"][0, :12] = -100
    model, config, keeper = tiny("llama", tie_word_embeddings=tied), configuration(stage), None
    threshold = halving_threshold(model, whole)
    expected = unfused(model, whole, threshold=threshold)
    if order == "init":
        model, keeper = partitioned(model, folder, config)
    if order != "after":
        attach(model, threshold=threshold)
    engine, *_ = deepspeed.initialize(model=model, config=config, model_parameters=model.parameters())
    if order == "after":
        attach(model, threshold=threshold)
    mine = {name: tensor[2 * rank : 2 * rank + 2] for name, tensor in whole.items()}
    items = (whole["labels"][:, 1:] != -100).sum()
    for _ in range(2):
        loss = 2 * engine(**mine, num_items_in_batch=items).loss  # DeepSpeed averages over the two ranks
        engine.backward(loss)
        total = loss.detach() / 2
        dist.all_reduce(total)
        torch.testing.assert_close(total, expected.loss, rtol=1e-6, atol=0)
        gradients = {name: safe_get_full_grad(parameter) for name, parameter in model.named_parameters()}
        error = worst(Trained(total, gradients), expected)
        assert error < 5e-6, error
        engine.step()
    assert 0.2 < read_stats(engine.module)["kept_fraction"] < 0.8
    if rank == 0:
        print(f"ZeRO-{stage}, attached {order}, tied={tied}: {error:.1e}")
    dist.barrier()
    del keeper
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3] == "1", Path(sys.argv[4]), int(sys.argv[5]))
