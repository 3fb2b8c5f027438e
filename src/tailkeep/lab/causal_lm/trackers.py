"""Trackers of training, TensorBoard and Weights & Biases: transformers' callbacks, with a place and a name of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import TrainerCallback
from transformers.integrations.integration_utils import TensorBoardCallback, WandbCallback

from tailkeep.lab.causal_lm.trainer_arguments import TrainerArguments
from tailkeep.lab.phase import current_phase
from tailkeep.optional import require
from tailkeep.runs import GenerationDir


def check_trackers(arguments: TrainerArguments) -> None:
    """Refuse trackers that are not installed.

    Raises:
        MissingPackageError: one is not.
    """
    for tracker in arguments.report_to:
        require(tracker, extra=tracker)


@contextmanager
def open_trackers(arguments: TrainerArguments) -> Iterator[list[TrainerCallback]]:
    """The callbacks of `report_to`; outside a phase of the laboratory TensorBoard's files go to its default folder."""
    place = current_phase()
    callbacks: list[TrainerCallback] = []
    if "tensorboard" in arguments.report_to:
        writers = require("torch.utils.tensorboard", extra="tensorboard")
        folder = None if place is None else place.generation_dir.path / "tensorboard"
        callbacks.append(TensorBoardCallback(tb_writer=writers.SummaryWriter(log_dir=folder and str(folder))))
    if "wandb" in arguments.report_to:
        callbacks.append(WandbCallback())
    yield callbacks
    if "wandb" in arguments.report_to:
        # The next training would go on in this run otherwise.
        require("wandb", extra="wandb").finish()


def run_name_of(arguments: TrainerArguments) -> str | None:
    """The name of this training among all: `run_name`, then arm, seed and generation."""
    place = current_phase()
    cell = "" if place is None else "/".join(map(str, _cell_of(place.generation_dir)))
    return "/".join(filter(None, [arguments.run_name, cell])) or None


def _cell_of(generation_dir: GenerationDir) -> tuple[str, int, int]:
    return generation_dir.arm, generation_dir.seed, generation_dir.generation
