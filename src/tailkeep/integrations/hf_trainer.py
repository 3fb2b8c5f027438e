"""Hugging Face's Trainer: `attach(model)` gives it the loss, this puts what the loss does into its log and checkpoints.

Rule: no subclass of the trainer. A model whose loss is attached trains in any Trainer; only the log and the state of a
loss that adapts need a hook.
"""

from pathlib import Path
from typing import Any

from tailkeep.errors import ConfigError
from tailkeep.losses import is_attached, read_stats
from tailkeep.losses.hf.attach import attachment_of
from tailkeep.optional import require

require("transformers", extra="hf")

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # noqa: E402

from tailkeep.integrations.trainer_state import logged, restore_state, save_state  # noqa: E402


class LossStatsCallback(TrainerCallback):
    """`kept_fraction` and `cross_entropy` (unweighted, in nats/token) beside each logged `loss`: means since the last.

    The state of the loss is saved with each checkpoint and restored where training resumes from it. A callback sees a
    log after those that come before it, and the trackers of `report_to` come before the callbacks given to a Trainer.
    `log_loss_stats` puts it first.

    Args:
        resume_from: the folder of the checkpoint, where training resumes from one that is not in `output_dir`.
    """

    def __init__(self, resume_from: str | Path | None = None) -> None:
        self.resume_from = resume_from

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Refuse a model without an attached loss, whose log would silently stay empty; restore the loss's state.

        Raises:
            ConfigError: nothing is attached, or training resumes from an unknown folder with a loss that has a state.
            InputError: the checkpoint has no state of the loss, or that of another loss.
        """
        del control, kwargs
        if not is_attached(model):
            raise ConfigError(
                f"{type(model).__name__} has no loss attached, so there is nothing to log. "
                "Call attach(model) before the Trainer is made, or leave the callback out."
            )
        restore_state(attachment_of(model), args, state, self.resume_from)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Put the state of the loss beside the checkpoint."""
        del control, kwargs
        save_state(attachment_of(model), args, state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Add to `logs`, and to the history that already holds a copy of it."""
        del args, control, kwargs
        # Evaluation and the summary at the end are logged too; training alone has a "loss".
        if logs is None or "loss" not in logs:
            return
        loss_stats = logged(read_stats(model))
        logs.update(loss_stats)
        state.log_history[-1].update(loss_stats)


def log_loss_stats(trainer: Trainer, *, resume_from: str | Path | None = None) -> None:
    """Log what the loss attached to the trainer's model does, to the trackers of `report_to` too, and checkpoint it.

    Args:
        trainer: of transformers.
        resume_from: see `LossStatsCallback`.

    Raises:
        ConfigError: it does so already, or is no Trainer.
    """
    if not isinstance(trainer, Trainer):
        raise ConfigError(f"{type(trainer).__name__} is no transformers.Trainer. Give the trainer, not the model.")
    callbacks = trainer.callback_handler.callbacks
    if any(isinstance(callback, LossStatsCallback) for callback in callbacks):
        raise ConfigError("the trainer has a LossStatsCallback already. One is enough.")
    callbacks.insert(0, LossStatsCallback(resume_from))
