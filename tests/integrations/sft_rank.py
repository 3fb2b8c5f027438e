"""One rank of an SFTTrainer under `use_loss`, as a program: `python -m tests.integrations.sft_rank SIZE OUT`.

Ranks take SIZE rows each a step; rank 0 writes the trained weights and the log to OUT.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import save_file
from trl import SFTConfig, SFTTrainer

from tailkeep.integrations.trl import use_loss
from tests.integrations import tiny


def main(size, out):
    torch.set_num_threads(1)
    model = tiny.new_model()
    rows = tiny.rows(model, 32)
    trainer = SFTTrainer(
        model=model,
        args=tiny.arguments(
            out, SFTConfig, per_device_train_batch_size=size, bf16=False, gradient_checkpointing=False, max_steps=4
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny.tokenizer(),
    )
    use_loss(trainer, threshold=tiny.THRESHOLD)
    trainer.train()
    if trainer.is_world_process_zero():
        save_file({name: p.detach().clone() for name, p in model.named_parameters()}, out / "weights.safetensors")
        (out / "log.json").write_text(json.dumps(trainer.state.log_history))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
