"""One generation's training, by transformers' `Trainer` on whatever device there is.

Rule: the number of steps follows from the budget, not from the size of the training set, so arms train on equally
many tokens; no checkpoint is selected by a reported measure: the last step's weights are the model.
"""

import math
import random
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainingArguments

from tailkeep.errors import TrainingError
from tailkeep.lab.causal_lm.config import Training
from tailkeep.lab.causal_lm.curve import CURVE_POINTS, CurveRecorder
from tailkeep.lab.causal_lm.tokenizer import Ids
from tailkeep.losses import Weighting, attach, detach

IGNORE = -100
Row = tuple[Ids, int]
"""Token ids, and where the targets begin, at least 1."""


def train(
    network: Any,
    rows: Sequence[Ids],
    *,
    training: Training,
    weighting: Weighting,
    budget: int,
    pad: int,
    seed: int,
    device: str,
    bf16: bool,
    firsts: Sequence[int] | None = None,
) -> dict[str, float]:
    """Train `network` in place; return its facts.

    Args:
        rows: token ids; every token but a row's first is a target.
        firsts: where the targets of each row begin, if not at its second token; see `first_targets`.
        budget: the tokens of one epoch, whatever the rows hold.

    Returns:
        `train_units` (targets seen), `train_flops` (6 for each of them and each weight, the usual estimate),
        `train_steps`, `train_nll` (mean cross-entropy over all steps, in nats/token) and `kept_fraction` (share of
        targets with a weight that is not zero).

    Raises:
        TrainingError: the weights are not finite at the end.
    """
    pairs = zip(rows, [1] * len(rows) if firsts is None else firsts, strict=True)
    trained = [(row, first) for row, first in pairs if first < len(row)]
    # Rows that are all prompt are part of the budget, but not trained on.
    share = sum(len(row) - 1 for row, _ in trained) / sum(len(row) - 1 for row in rows)
    steps = _steps([row for row, _ in trained], training, budget * share)
    _check_finite(network, training)
    attach(network, weighting)

    # Trainer needs a folder, though no checkpoint is saved.
    with _restored_generators(), tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=training.batch,
            gradient_accumulation_steps=training.gradient_accumulation,
            learning_rate=training.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=training.max_grad_norm,
            optim="adamw_torch",
            bf16=bf16,
            seed=seed % 2**32,
            data_seed=seed % 2**32,
            use_cpu=device == "cpu",
            report_to="none",
            save_strategy="no",
            logging_steps=math.ceil(steps / CURVE_POINTS),
            disable_tqdm=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
        )
        # With several GPUs Trainer would wrap the model in DataParallel and multiply the batch by their number.
        arguments._n_gpu = min(arguments.n_gpu, 1)
        trainer = Trainer(
            model=network,
            args=arguments,
            train_dataset=_Rows(trained),
            data_collator=_Collator(pad),
        )
        trainer.remove_callback(PrinterCallback)
        recorder = CurveRecorder(steps)
        # After the callback that decides when to log, before the trackers of `report_to`, which see what is added.
        trainer.callback_handler.callbacks.insert(1, recorder)
        # Early generations may truncate nothing; kept_fraction tells in the metrics.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No token was truncated", category=UserWarning)
            trainer.train()
        # Mixed precision replaces the model's forward; what is measured and copied is the model itself.
        trainer.accelerator.unwrap_model(network, keep_fp32_wrapper=False)
        # Accelerate leaves the method on the object, where a copy of the model would call the original's.
        vars(network).pop("forward", None)
    recorder.read(network)
    detach(network)
    _check_finite(network, training)
    return {
        "train_units": recorder.targets,
        "train_flops": 6.0 * recorder.targets * sum(weights.numel() for weights in network.parameters()),
        "train_steps": float(steps),
        "train_nll": recorder.mean("cross_entropy"),
        "kept_fraction": recorder.mean("kept_fraction"),
    }


@contextmanager
def _restored_generators() -> Iterator[None]:
    """Trainer seeds every global generator: keep that inside."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _steps(rows: Sequence[Ids], training: Training, budget: float) -> int:
    """Optimiser steps: `epochs` passes over the budget, or over the rows without `equal_tokens`."""
    per_pass = math.ceil(len(rows) / (training.batch * training.gradient_accumulation))
    targets = sum(len(row) - 1 for row in rows)
    passes = training.epochs * (budget / targets if training.equal_tokens else 1.0)
    return max(1, round(passes * per_pass))


def _check_finite(network: Any, training: Training) -> None:
    if not all(torch.isfinite(parameter).all() for parameter in network.parameters()):
        raise TrainingError(
            f"the weights are no longer finite after training at learning_rate {training.learning_rate}. "
            "Lower training.learning_rate or training.max_grad_norm."
        )


class _Rows(Dataset[Row]):
    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]


@dataclass(frozen=True)
class _Collator:
    """Rows padded to the longest: padding is masked and is no target."""

    pad: int

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        width = max(len(row) for row, _ in rows)
        ids = np.full((len(rows), width), self.pad, dtype=np.int64)
        labels = np.full((len(rows), width), IGNORE, dtype=np.int64)
        for i, (row, first) in enumerate(rows):
            ids[i, : len(row)] = row
            # A row's first token is no target. Trainer knows that of some architectures only, and counts it for the
            # rest.
            labels[i, first : len(row)] = row[first:]
        mask = np.arange(width) < np.array([[len(row)] for row, _ in rows])
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
            "labels": torch.from_numpy(labels),
        }
