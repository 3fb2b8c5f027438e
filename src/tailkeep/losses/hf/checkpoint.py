"""The state of an attached loss in a checkpoint's folder: what its weighting has learnt, and the statistics so far.

Rule: a file per process, written whole or not at all, read without running code from it. A loss with a state resumes
exactly where it was saved, or raises.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from tailkeep.errors import InputError
from tailkeep.losses.hf.attach import attachment_of
from tailkeep.losses.hf.state import Monitor
from tailkeep.losses.weighting import Weighting
from tailkeep.runs.storage import Storage


class LossHolder(Protocol):
    """A weighting at work, such as an attachment, with its statistics."""

    @property
    def weighting(self) -> Weighting:
        """The loss."""
        ...

    @property
    def monitor(self) -> Monitor:
        """What the loss saw."""
        ...


def save_loss_state(model: nn.Module, folder: str | Path, *, rank: int = 0) -> Path:
    """Write the state of the loss attached to `model`, of any kind, into `folder`.

    Args:
        model: an attached model, or one that wraps it.
        folder: of a checkpoint; made if missing.
        rank: of this process; each has a state of its own.

    Returns:
        The file.

    Raises:
        ConfigError: nothing is attached.
        StorageError: the file system refused.
    """
    return write_state(attachment_of(model), Path(folder), rank)


def load_loss_state(model: nn.Module, folder: str | Path, *, rank: int = 0) -> None:
    """Resume where `save_loss_state` was called; to be called after `attach`, before the first training call.

    Raises:
        ConfigError: nothing is attached.
        InputError: there is no such file, it cannot be read, or it is of another loss.
    """
    read_state(attachment_of(model), Path(folder), rank)


def state_file(folder: Path, rank: int) -> Path:
    """Where the state of a process is kept."""
    return folder / f"tailkeep_loss_{rank}.pt"


def write_state(holder: LossHolder, folder: Path, rank: int) -> Path:
    """See `save_loss_state`."""
    content = io.BytesIO()
    weighting, monitor = holder.weighting, holder.monitor
    state = {"loss": weighting.name, "weighting": weighting.state_dict(), "monitor": monitor.state_dict()}
    torch.save(state, content)
    path = state_file(folder, rank)
    Storage().write_bytes(path, content.getvalue())
    return path


def read_state(holder: LossHolder, folder: Path, rank: int) -> None:
    """See `load_loss_state`."""
    path, name = state_file(folder, rank), holder.weighting.name
    if not path.is_file():
        raise InputError(
            f"{path} is missing: the checkpoint has no state of the loss {name!r} of process {rank}, which would start "
            "anew. Resume from a checkpoint that was saved with it, with as many processes, or train from the start."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no error of its own
        raise InputError(f"{path} cannot be read ({error}). Resume from another checkpoint.") from error
    if not isinstance(state, Mapping) or state.get("loss") != name:
        saved: Any = state.get("loss") if isinstance(state, Mapping) else None
        raise InputError(
            f"{path} is the state of the loss {saved!r}, and the attached one is {name!r}. Attach the loss that was "
            "saved, or start a new run from the checkpoint's weights."
        )
    holder.weighting.load_state_dict(state["weighting"])
    holder.monitor.load_state_dict(state["monitor"])
