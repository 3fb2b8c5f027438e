"""The state of a loss beside the checkpoints of a transformers Trainer, saved with each and restored with it.

A Trainer does not say to its callbacks from which folder it resumes. Rule: the folder is the one whose
`trainer_state.json` the Trainer has loaded; where there is none a loss with a state refuses to train.
"""

import json
from pathlib import Path

from transformers import TrainerState, TrainingArguments

from tailkeep.errors import ConfigError
from tailkeep.losses.hf.checkpoint import LossHolder, read_state, state_file, write_state


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
        InputError: a loss with a state, and a checkpoint without it.
    """
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
    if folder is not None and (weighting.state is not None or state_file(folder, args.process_index).is_file()):
        read_state(holder, folder, args.process_index)


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"


def _is_of(folder: Path, state: TrainerState) -> bool:
    """Whether `state` is that of the checkpoint in `folder`."""
    path = folder / "trainer_state.json"
    if not path.is_file():
        return False
    saved = json.loads(path.read_text(encoding="utf-8"))
    same_log = json.dumps(saved["log_history"]) == json.dumps(state.log_history)
    return bool(saved["global_step"] == state.global_step and same_log)
