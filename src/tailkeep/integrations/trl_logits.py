"""TRL without a fused output layer (before 1.15): the weighting as the trainer's `compute_loss_func`, on the logits.

Rule: the function is there for the training call alone. TRL's metrics, its denominators and its evaluation stay as they
are; the logits are in memory, as this TRL has them for its metrics anyway.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from tailkeep.losses import LossStats, reduce_nll, token_nll
from tailkeep.losses.cross_entropy import prediction_entropy
from tailkeep.losses.engines.reference import times
from tailkeep.losses.hf.checkpoint import LossHolder


def training_loss(
    trainer: Any, base: Any, holder: LossHolder, model: Any, inputs: Any, return_outputs: bool, num_items: Any
) -> Any:
    """What `compute_loss` of the class `base` of `trainer` gives with the weighted loss in place of its own."""
    trainer.compute_loss_func = partial(weighted_loss, holder)
    try:
        return base.compute_loss(trainer, model, inputs, return_outputs, num_items)
    finally:
        trainer.compute_loss_func = None


def weighted_loss(
    holder: LossHolder, outputs: Any, labels: Tensor, num_items_in_batch: Any = None, **kwargs: Any
) -> Tensor:
    """The loss of logits (B, T, V) under unshifted `labels` (B, T), whose statistics go to the monitor."""
    del kwargs
    weighting, targets = holder.weighting, labels[..., 1:]
    logits = outputs.logits[..., :-1, :]
    nll, valid = token_nll(logits, targets), targets != -100
    counted = nll[valid]
    weights = weighting.factors(counted, prediction_entropy(logits, valid, weighting))
    with torch.no_grad():
        correct = (logits.argmax(-1) == targets)[valid].float().mean()
        holder.monitor.add(
            LossStats((weights != 0).float().mean(), counted.mean(), torch.exp(-counted).mean(), correct, valid.sum())
        )
    weighting.move_on(counted)
    losses = torch.zeros_like(nll).masked_scatter(valid, times(counted, weights))
    return reduce_nll(losses, valid, valid=valid, num_items=num_items_in_batch)
