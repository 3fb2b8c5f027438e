"""Hugging Face's Trainer: `attach(model)` gives it the loss, this puts what the loss does into its log and checkpoints.

Rules: no subclass of the trainer. A model whose loss is attached trains in any Trainer; only the log, in which the
unweighted cross-entropy stands beside any loss, and the state of a loss that adapts need a hook. A Trainer does not say
from which folder it resumes: it is the one whose `trainer_state.json` it has loaded; where there is none, a loss with a
state refuses to train.
"""

import json
import uuid
from pathlib import Path
from typing import Any

from tailkeep.errors import ConfigError, InputError
from tailkeep.optional import require

# Explained before the imports below fail on it.
require("transformers", extra="hf")

import torch.distributed as dist  # noqa: E402
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # noqa: E402

from tailkeep.losses import is_attached, read_stats  # noqa: E402
from tailkeep.losses.hf.attach import LossHolder, attachment_of, read_state, state_file, write_state  # noqa: E402

NAMES = ("kept_fraction", "cross_entropy")
_ENTRY = "tailkeep"
"""Where the name of a run stands among the `stateful_callbacks` of a `trainer_state.json`."""


def logged(stats: dict[str, float]) -> dict[str, float]:
    """The means of `NAMES` over the targets of all ranks; every rank calls this, also one that has seen no target.

    Args:
        stats: of `read_stats` on this rank, possibly empty.
    """
    ranks: list[dict[str, float]] = [stats]
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        ranks = [{} for _ in range(dist.get_world_size())]
        dist.all_gather_object(ranks, stats)
    ranks = [rank for rank in ranks if rank]
    targets = sum(rank["targets"] for rank in ranks)
    return {name: sum(rank[name] * rank["targets"] for rank in ranks) / targets for name in NAMES} if ranks else {}


def save_state(holder: LossHolder, args: TrainingArguments, state: TrainerState) -> None:
    """Write the state of this process into the checkpoint that was just saved."""
    folder = _folder(args, state)
    # A hyper-parameter search has its checkpoints elsewhere.
    if not state.is_hyper_param_search:
        write_state(holder, folder, args.process_index)


def restore_state(
    holder: LossHolder, args: TrainingArguments, state: TrainerState, resume_from: str | Path | None
) -> None:
    """At the beginning of a training that resumes, load what `save_state` wrote.

    Raises:
        ConfigError: a loss with a state, and no folder of that checkpoint.
        InputError: a loss with a state, and a checkpoint without it, or with those of more processes.
    """
    _identify(state)
    if state.global_step == 0:
        return
    candidates = [resume_from, args.resume_from_checkpoint, _folder(args, state)]
    folders = [Path(folder) for folder in candidates if isinstance(folder, str | Path)]
    folder = next((folder for folder in folders if _is_of(folder, state)), None)
    weighting = holder.weighting
    if folder is None and weighting.state is not None:
        raise ConfigError(
            f"training resumes at step {state.global_step} with the loss {weighting.name!r}, which has a state, and "
            f"the checkpoint is none of {', '.join(map(str, folders))}. Name its folder as resume_from."
        )
    if folder is None:
        return
    if weighting.state is not None and state_file(folder, args.world_size).is_file():
        raise InputError(
            f"{folder} has the states of more than {args.world_size} processes of the loss {weighting.name!r}, and "
            f"{args.world_size} resume. Resume with as many, or start a new run from the checkpoint's weights."
        )
    if weighting.state is not None or state_file(folder, args.process_index).is_file():
        read_state(holder, folder, args.process_index)


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"


def _identify(state: TrainerState) -> None:
    """Give a run a name at its beginning, which its checkpoints keep; runs without a log look alike otherwise."""
    entries: Any = state.stateful_callbacks
    if _ENTRY not in entries:
        names = [uuid.uuid4().hex]
        if dist.is_available() and dist.is_initialized():
            dist.broadcast_object_list(names, src=0)
        entries[_ENTRY] = {"args": {}, "attributes": {"run": names[0]}}


def _is_of(folder: Path, state: TrainerState) -> bool:
    """Whether `state` is that of the checkpoint in `folder`: one of the same run, at the same step."""
    path = folder / "trainer_state.json"
    if not path.is_file():
        return False
    saved = json.loads(path.read_text(encoding="utf-8"))
    entries: Any = state.stateful_callbacks
    same_run = (saved.get("stateful_callbacks") or {}).get(_ENTRY) == entries[_ENTRY]
    same_log = json.dumps(saved["log_history"]) == json.dumps(state.log_history)
    return bool(saved["global_step"] == state.global_step and same_log and same_run)


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
