"""Checkpoints inside a training: those of transformers' Trainer, the state of the loss, and what was read so far.

    unfinished/train/<part>/checkpoint-<step>/{model.safetensors, optimizer.pt, ..., curve_state.json, sha256.json}

Rule: one is read only if each of its files has the sha256 that was written last, and no file runs code when it is
loaded. A training that goes on from one ends in the same bytes as an uninterrupted one.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_model
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tailkeep.errors import InputError
from tailkeep.lab.causal_lm.curve import CurveRecorder
from tailkeep.lab.causal_lm.tokenizer import Ids
from tailkeep.lab.phase import PhasePlace
from tailkeep.lab.unfinished import Spacing, unfinished_folder
from tailkeep.losses.hf.checkpoint import load_loss_state, save_loss_state
from tailkeep.runs import hash_path, hash_tree
from tailkeep.runs.record import read_json

_HASHES = "sha256.json"
_CURVE = "curve_state.json"
_PICKLE = "training_args.bin"
"""Trainer writes it and nothing reads it."""
_BYTES_PER_SECOND = 200e6
"""The guess before the first checkpoint is written: hashed and flushed."""


def identity_of(rows: Sequence[tuple[Ids, int]], *, steps: int, seed: int) -> str:
    """What makes two trainings within one generation the same: rows, first targets, steps and seed."""
    digest = hashlib.sha256()
    for ids, first in rows:
        digest.update(len(ids).to_bytes(8, "little") + first.to_bytes(8, "little") + ids.tobytes())
    return hash_tree({"rows": digest.hexdigest(), "steps": steps, "seed": seed})


class Checkpoints:
    """The checkpoints of one training within the phase at `place`, the newest is kept; without a place none is."""

    def __init__(self, place: PhasePlace | None, identity: str) -> None:
        self._place, self._identity = place, identity
        self._newest = self._find()

    @property
    def step(self) -> int:
        """The optimizer steps that the newest one has done; 0 if there is none."""
        return 0 if self._newest is None else _step_of(self._newest)

    def restore(self, network: Any, recorder: CurveRecorder) -> str | None:
        """Restore the loss and `recorder` from the newest; return its folder, from which a Trainer restores the rest.

        Raises:
            InputError: a file of it cannot be read.
        """
        if self._newest is None:
            return None
        load_loss_state(network, self._newest)
        recorder.load_state_dict(read_json(self._newest / _CURVE)["recorder"])
        return str(self._newest)

    def write(self, trainer: Trainer, recorder: CurveRecorder) -> None:
        """Write one of the step that `trainer` has just done, then remove the one before.

        Raises:
            StorageError: the file system refused.
        """
        if self._place is None:
            return
        before, storage = self._newest, self._place.generation_dir.storage
        self._newest = unfinished_folder(self._place) / f"checkpoint-{trainer.state.global_step}"
        storage.write_folder(self._newest, lambda folder: self._fill(folder, trainer, recorder))
        if before is not None:
            storage.remove_folder(before)

    def _fill(self, folder: Path, trainer: Trainer, recorder: CurveRecorder) -> None:
        network: Any = trainer.model
        output_dir, trainer.args.output_dir = trainer.args.output_dir, str(folder)
        trainer._save_checkpoint(network, None)
        trainer.args.output_dir = output_dir
        (inner,) = folder.iterdir()
        (inner / _PICKLE).unlink(missing_ok=True)
        for file in inner.iterdir():
            file.rename(folder / file.name)
        inner.rmdir()
        _name_weights(folder, network)
        save_loss_state(network, folder)
        state = {"identity": self._identity, "recorder": recorder.state_dict()}
        (folder / _CURVE).write_text(json.dumps(state), encoding="utf-8")
        hashes = {file.name: hash_path(file) for file in sorted(folder.iterdir())}
        (folder / _HASHES).write_text(json.dumps(hashes), encoding="utf-8")

    def _find(self) -> Path | None:
        if self._place is None:
            return None
        folders = unfinished_folder(self._place).glob("checkpoint-*[0-9]")
        for folder in sorted(folders, key=_step_of, reverse=True):
            _check_hashes(folder)
            if read_json(folder / _CURVE)["identity"] == self._identity:
                return folder
        return None


class CheckpointCallback(TrainerCallback):
    """Writes a checkpoint when the curve is read and it is time for one; after the last step the model is written."""

    def __init__(self, checkpoints: Checkpoints, trainer: Trainer, recorder: CurveRecorder) -> None:
        self._checkpoints, self._trainer, self._recorder = checkpoints, trainer, recorder
        network: Any = trainer.model
        weights = list(network.parameters())
        size = sum(tensor.numel() * tensor.element_size() for tensor in weights)
        # Beside the weights two moments of Adam in float32.
        size += 8 * sum(tensor.numel() for tensor in weights if tensor.requires_grad)
        self._spacing = Spacing(size / _BYTES_PER_SECOND)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write one if it is due."""
        del args, control, kwargs
        is_reading = logs is not None and "loss" in logs
        if is_reading and state.global_step < state.max_steps and self._spacing.is_due:
            with self._spacing.measure():
                self._checkpoints.write(self._trainer, self._recorder)


def _name_weights(folder: Path, network: Any) -> None:
    """Let the safetensors in `folder` name each weight as `network` does.

    transformers renames those of some architectures when it saves, and a Trainer that resumes would leave them out
    without a word.
    """
    names: set[str] = set()
    files = list(folder.glob("*.safetensors*"))
    for file in files:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as tensors:
                names |= set(tensors.keys())
    if {name for name, _ in network.named_parameters()} <= names:
        return
    for file in files:
        file.unlink()
    save_model(network, str(folder / "model.safetensors"))


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _check_hashes(folder: Path) -> None:
    try:
        hashes = read_json(folder / _HASHES)
    except InputError:
        hashes = {}
    present = {file.name for file in folder.iterdir()} - {_HASHES}
    differing = (name for name in present & set(hashes) if hash_path(folder / name) != hashes[name])
    changed = sorted({*differing, *(present ^ set(hashes))})
    if changed:
        raise InputError(
            f"{folder / changed[0]} is not what was written: the checkpoint has changed since. Delete the folder "
            f"{folder} and run the same command again; this training then starts anew."
        )
