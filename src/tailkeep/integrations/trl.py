"""TRL's SFTTrainer: any weighting of token losses inside the loss that TRL computes by itself.

SFTTrainer calls a model's backbone directly, not its forward, so nothing can be attached to the model. It turns
`log_probs` (B, T) into the loss; in training these are weighted on their way to it. Before 1.15 it has no such numbers,
and the weighting is its `compute_loss_func`, on the logits, in the training call alone. Rule: TRL's own loss,
denominators, metrics, auxiliary loss and evaluation stay as they are, and the first step proves that the weighted
numbers are used.
"""

import functools
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tailkeep.errors import AttachmentError, ConfigError
from tailkeep.integrations.hf_trainer import logged, restore_state, save_state
from tailkeep.losses import LossStats, Weighting, is_attached, reduce_nll, token_nll
from tailkeep.losses.cross_entropy import prediction_entropy
from tailkeep.losses.engines.reference import times
from tailkeep.losses.hf.attach import LossHolder, resolve_weighting, truncates
from tailkeep.losses.hf.state import Monitor
from tailkeep.losses.terms import TERM_NAMES
from tailkeep.optional import require

TrainerT = TypeVar("TrainerT")


def use_loss(
    trainer: TrainerT,
    loss: str | Weighting = "truncated",
    *,
    threshold: float | None = None,
    resume_from: str | Path | None = None,
    **options: Any,
) -> TrainerT:
    """Make `trainer` train with a weighting, and log `kept_fraction` and `cross_entropy` (unweighted, in nats/token).

    Args:
        trainer: an SFTTrainer or a subclass that leaves the loss to it; changed in place.
        loss: a name, or any `Weighting`; from TRL 1.15 on none of the entropy of the k most likely tokens, since it has
            the whole one alone.
        threshold: of the losses that have one; a probability in (0, 1].
        resume_from: the folder of the checkpoint, where training resumes from one that is not in `output_dir`.
        **options: those of the named loss.

    Returns:
        `trainer`.

    Raises:
        ConfigError: another trainer, settings with which TRL would pass the weighting by, or a loss or options that
            cannot be used.
        MissingPackageError: trl is missing.
    """
    if terms := sorted(TERM_NAMES & options.keys()):
        raise ConfigError(f"{', '.join(terms)} cannot be used here: the loss of a token is TRL's own. Leave them out.")
    weighting = resolve_weighting(loss, threshold, options)
    fused = _check(trainer, weighting)
    loss_at_work = _Loss(weighting)
    trainer.__dict__["_tailkeep"] = loss_at_work
    base: Any = type(trainer)
    base.add_callback(trainer, _state_callback(loss_at_work, resume_from))
    trainer.__class__ = _weighted_class(base, fused)
    return trainer


class _Loss:
    """A weighting at work in one trainer."""

    def __init__(self, weighting: Weighting) -> None:
        self.weighting = weighting
        self.monitor = Monitor(truncates(weighting))
        self.proven = False


def _state_callback(loss: _Loss, resume_from: str | Path | None) -> Any:
    """A callback that keeps the state of `loss` with the trainer's checkpoints."""
    from transformers import TrainerCallback

    class LossStateCallback(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del control, kwargs
            restore_state(loss, args, state, resume_from)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del control, kwargs
            save_state(loss, args, state)

    return LossStateCallback()


class _WeightedModel:
    """A model as TRL's compute_loss calls it: the wrapped one, so that DDP and FSDP see every call.

    `log_probs` holds what the loss is to be made of.
    """

    def __init__(self, model: nn.Module, loss: _Loss) -> None:
        self._model = model
        self._loss = loss
        self.log_probs: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self._model(*args, **kwargs)
        if kwargs.get("fused_lm_head"):
            if self.log_probs is not None:
                raise AttachmentError(f"SFTTrainer called the fused output layer twice in one training step. {_HOW}")
            output.log_probs = self.log_probs = _weighted(output, self._loss)
        return output


def _weighted(output: Any, loss: _Loss) -> Tensor:
    """(B, T) log-probabilities times their weights, 0 where there is no target or a weight of 0."""
    weighting, valid = loss.weighting, output.label_mask
    nll = -output.log_probs[valid]
    entropy = None if weighting.entropy is None else output.entropy.detach()[valid]
    weights = weighting.factors(nll, entropy)
    with torch.no_grad():
        loss.monitor.add(LossStats.of(nll, weights != 0, output.is_top1[valid]))
    weighting.move_on(nll)
    return torch.zeros_like(output.log_probs).masked_scatter(valid, -times(nll, weights))


@functools.cache
def _weighted_class(base: type, fused: bool) -> type:
    """The subclass of `base` under its name; a class, so that a copy of the trainer is not bound to the first one."""

    def compute_loss(
        self: Any, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        base_compute_loss = base.compute_loss  # type: ignore[attr-defined]
        if not self.model.training:
            return base_compute_loss(self, model, inputs, return_outputs, num_items_in_batch)
        loss: _Loss = self.__dict__["_tailkeep"]
        if not fused:
            return training_loss(self, base, loss, model, inputs, return_outputs, num_items_in_batch)
        weighted = _WeightedModel(model, loss)
        result = base_compute_loss(self, weighted, inputs, return_outputs, num_items_in_batch)
        _check_used(result[0] if return_outputs else result, weighted, loss)
        return result

    def log(self: Any, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        # Evaluation and the summary at the end are logged too; training alone has a "loss".
        if "loss" in logs:
            logs.update(logged(self.__dict__["_tailkeep"].monitor.read()))
        base.log(self, logs, *args, **kwargs)  # type: ignore[attr-defined]

    body = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    return type(base.__name__, (base,), {**body, "compute_loss": compute_loss, "log": log, "_tailkeep_base": base})


def _check(trainer: Any, weighting: Weighting) -> bool:
    """Whether this TRL has the numbers that can be weighted: a fused output layer."""
    trl = require("trl", extra="trl")
    fused = hasattr(require("trl.trainer.utils", extra="trl"), "FusedCausalLMOutput")
    name = type(trainer).__name__
    if not isinstance(trainer, trl.SFTTrainer):
        raise ConfigError(f"{name} is no SFTTrainer of trl. For a Trainer of transformers use attach(model).")
    if hasattr(trainer, "_tailkeep_base"):
        raise ConfigError(f"this {name} has a loss already. Make a new trainer for another one.")
    if is_attached(trainer.model):
        raise ConfigError(
            "the trainer's model has a loss attached, which SFTTrainer would pass by. Call detach(model)."
        )
    if weighting.needs_sequences:
        raise ConfigError(
            f"the loss {weighting.name!r} judges whole sequences, and SFTTrainer does not hand on their initial loss. "
            "Use attach(model) with a Trainer of transformers, or TRL's own example."
        )
    if fused and weighting.entropy not in (None, "full"):
        raise ConfigError(
            f"the loss {weighting.name!r} needs the entropy of the {weighting.entropy} most likely tokens, and TRL "
            "computes the whole one. Use attach(model) with a Trainer of transformers, or another loss."
        )
    for setting, value, accepted in _settings(trainer, fused):
        if value not in accepted:
            instead = "Leave it out." if fused or setting != "loss_type" else "Use SFTConfig(loss_type='nll')."
            raise ConfigError(f"{setting} is {value!r}, with which TRL computes another loss. {instead}")
    return fused


def _settings(trainer: Any, fused: bool) -> list[tuple[str, Any, tuple[Any, ...]]]:
    """Settings, what they are, and with what values TRL's loss is the sum of negative `log_probs`, or of the logits."""
    parallel = getattr(trainer.accelerator, "parallelism_config", None)
    sequence = parallel is not None and parallel.sp_enabled and parallel.sp_backend == "deepspeed"
    context = parallel is not None and bool(parallel.cp_enabled)
    return [
        ("loss_type", getattr(trainer.args, "loss_type", "nll"), ("nll", "chunked_nll") if fused else ("nll",)),
        ("compute_loss_func", trainer.compute_loss_func, (None,)),
        ("label_smoothing_factor", trainer.args.label_smoothing_factor, (0,)),
        ("sequence parallelism of DeepSpeed", sequence, (False,)),
        ("context parallelism", not fused and context, (False,)),
        ("use_liger_kernel", not fused and trainer.args.use_liger_kernel, (False,)),
        ("the auxiliary loss of experts", not fused and getattr(trainer, "aux_loss_enabled", False), (False,)),
    ]


def _check_used(result: Tensor, weighted: _WeightedModel, loss: _Loss) -> None:
    """Raise where a loss is not the sum of the weighted log-probabilities times one negative number."""
    if weighted.log_probs is None:
        raise AttachmentError(f"SFTTrainer computed its loss without its fused output layer. {_HOW}")
    if loss.proven or not weighted.log_probs.requires_grad or not weighted.log_probs.numel():
        return
    # Stops at the log-probabilities, so no parameter of the model sees this backward pass.
    (gradient,) = torch.autograd.grad(result, weighted.log_probs, retain_graph=True, allow_unused=True)
    if gradient is None or not bool((gradient == gradient.flatten()[0]).all()) or not bool(gradient.flatten()[0] < 0):
        raise AttachmentError(f"SFTTrainer computed a loss in which the weighted tokens have no part. {_HOW}")
    loss.proven = True


_HOW = (
    "This version of trl, or a subclass, has a loss of its own. Train with transformers' Trainer and attach(model), or "
    "with a version of trl that tailkeep's extra requires."
)


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
        correct = (logits.argmax(-1) == targets)[valid]
        holder.monitor.add(LossStats.of(counted, weights != 0, correct))
    weighting.move_on(counted)
    losses = torch.zeros_like(nll).masked_scatter(valid, times(counted, weights))
    return reduce_nll(losses, valid, valid=valid, num_items=num_items_in_batch)
