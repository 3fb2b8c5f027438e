"""The loop of docs/integrations.md under Accelerate, against a loop with the loss on logits."""

import math

import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from tests.integrations import page
from tests.integrations.tiny import collate, distance, facts, unfused


class Recording(Accelerator):
    def log(self, values, step=None, log_kwargs=None):
        self.__dict__.setdefault("seen", []).append(values)


def looped(model, rows, size, micro_batches, optimizer=None):
    accelerator = Recording(cpu=True)
    page.run(
        "Accelerate, or a loop of your own",
        {
            "accelerator": accelerator,
            "model": model,
            "optimizer": optimizer or torch.optim.AdamW(model.parameters(), lr=1e-3),
            "loader": DataLoader(rows, batch_size=size, collate_fn=collate),
            "micro_batches": micro_batches,
        },
    )
    return accelerator.seen


def test_it_trains_as_with_the_loss_on_logits_however_batches_are_split(model, twin, weights, rows):
    logs = looped(model, rows, 2, 4)
    looped(twin, rows, 8, 1)
    judge = weights.__class__(weights.config).train()
    judge.load_state_dict(weights.state_dict())
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3)
    for batch in DataLoader(rows, batch_size=8, collate_fn=collate):
        unfused(judge(**{k: v for k, v in batch.items() if k != "labels"}), batch["labels"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert distance(model, judge) < 1e-5
    assert distance(twin, judge) < 1e-5
    assert len(logs) == math.ceil(len(rows) / 8)


def test_the_log_tells_what_the_loss_did(model, twin, rows):
    (stats,) = looped(model, rows, 16, 4)
    expected = facts(twin, collate(rows))
    assert {name: stats[name] for name in expected} == pytest.approx(expected, abs=1e-5)
