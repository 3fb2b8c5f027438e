"""Callbacks of transformers' Trainer: the curve of a training run, its checkpoints, TensorBoard and Weights & Biases.

    unfinished/train/<part>/checkpoint-<step>/{model.safetensors, optimizer.pt, ..., curve_state.json, sha256.json}

Rules: when the curve is read depends on the step alone, so its sums are the same bytes in every run. A checkpoint is
read only if each of its files has the sha256 that was written last, and no file runs code when it is loaded. A training
that goes on from one ends in the same bytes as an uninterrupted one.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_model
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback, WandbCallback

from tailkeep.errors import InputError
from tailkeep.lab.causal_lm.tokenizer import Ids
from tailkeep.lab.causal_lm.trainer_arguments import TrainerArguments
from tailkeep.lab.phase import PhasePlace, Spacing, current_phase, unfinished_folder
from tailkeep.losses import read_stats
from tailkeep.losses.hf.attach import load_loss_state, save_loss_state
from tailkeep.optional import require
from tailkeep.runs import hash_path, hash_tree, track_loop
from tailkeep.runs.generation_dir import COLUMNS
from tailkeep.runs.record import read_json

CURVE_POINTS = 100
"""The most readings of a training run: each waits for the device."""
_MEANS = ("cross_entropy", "kept_fraction")


class CurveRecorder(TrainerCallback):
    """Adds up what the attached loss has seen, tells the log of it, and reports progress.

    `steps` are to be made, of which an earlier run has made `resumed`.
    """

    def __init__(self, steps: int, resumed: int = 0) -> None:
        self.targets = 0.0
        """How many targets were trained on."""
        self._sums = dict.fromkeys(_MEANS, 0.0)
        self.curve: dict[str, list[float]] = {name: [] for name in COLUMNS}
        self.tokens_per_second: list[float] = []
        """Between one reading and the next, as the curve."""
        self._steps = steps
        self._read_at = time.perf_counter()
        self._loop = track_loop(steps, "steps", resumed=resumed)
        self._loss: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, as plain numbers."""
        return {
            "targets": self.targets,
            "sums": self._sums,
            "curve": self.curve,
            "tokens_per_second": self.tokens_per_second,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where `state_dict` was called."""
        self.targets, self._sums = state["targets"], state["sums"]
        self.curve, self.tokens_per_second = state["curve"], state["tokens_per_second"]

    def mean(self, name: str) -> float:
        """The mean over all targets: `cross_entropy` in nats/token, or `kept_fraction`."""
        return self._sums[name] / self.targets

    def read(self, model: Any) -> dict[str, float]:
        """The means since the last reading, by name, and the number of `targets`; empty if there was none."""
        stats = read_stats(model)
        if stats:
            self.targets += stats["targets"]
            for name in _MEANS:
                self._sums[name] += stats[name] * stats["targets"]
        return {name: stats[name] for name in ("targets", *_MEANS)} if stats else {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock of the first reading."""
        del args, state, control, kwargs
        self._read_at = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Log the last step too, and stop where an estimate has measured enough."""
        del args, kwargs
        control.should_log |= state.global_step >= self._steps
        if not control.should_log:
            self._loop.advance(loss=self._loss)
        control.should_training_stop |= self._loop.enough

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Add what the loss did to `logs`, and to the history that already holds a copy of them."""
        del args, kwargs
        # The summary at the end is logged too; training alone has a "loss".
        if logs is None or "loss" not in logs:
            return
        stats = self.read(model)
        means = {name: stats.get(name, math.nan) for name in _MEANS}
        logs.update(means)
        state.log_history[-1].update(means)
        point = {**logs, "step": state.global_step}
        for name in COLUMNS:
            self.curve[name].append(point[name])
        now = time.perf_counter()
        self.tokens_per_second.append(stats.get("targets", 0.0) / (now - self._read_at))
        self._read_at = now
        self._loss = logs["loss"]
        self._loop.advance(amount=int(stats.get("targets", 0)), loss=self._loss)
        control.should_training_stop |= self._loop.enough


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


def check_trackers(arguments: TrainerArguments) -> None:
    """Refuse trackers that are not installed.

    Raises:
        MissingPackageError: one is not.
    """
    for tracker in arguments.report_to:
        require(tracker, extra=tracker)


@contextmanager
def open_trackers(arguments: TrainerArguments) -> Iterator[list[TrainerCallback]]:
    """The callbacks of `report_to`, closed however the training ends: the next one is a run of its own.

    Outside a phase of the laboratory TensorBoard's files go to its default folder.
    """
    place = current_phase()
    callbacks: list[TrainerCallback] = []
    with ExitStack() as stack:
        if "tensorboard" in arguments.report_to:
            writers = require("torch.utils.tensorboard", extra="tensorboard")
            folder = place and str(place.generation_dir.path.joinpath("tensorboard", *_member_of(place)))
            writer = writers.SummaryWriter(log_dir=folder)
            stack.callback(writer.close)
            callbacks.append(TensorBoardCallback(tb_writer=writer))
        if "wandb" in arguments.report_to:
            stack.callback(require("wandb", extra="wandb").finish)
            callbacks.append(WandbCallback())
        yield callbacks


def run_name_of(arguments: TrainerArguments) -> str | None:
    """The name of this training among all: `run_name`, then arm, seed, generation and the member of an ecosystem."""
    names = [arguments.run_name]
    if (place := current_phase()) is not None:
        cell = place.generation_dir
        names += [cell.arm, str(cell.seed), str(cell.generation), *_member_of(place)]
    return "/".join(filter(None, names)) or None


def _member_of(place: PhasePlace) -> tuple[str, ...]:
    return () if place.part == PhasePlace.part else (place.part,)
