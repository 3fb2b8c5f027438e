"""The choice of a prior, and how it is loaded. Rule: how is decided in `source`, for every model alike."""

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from tailkeep.config import InputPath, Settings
from tailkeep.errors import ConfigError
from tailkeep.scoring import source


class Prior(Settings):
    """A causal language model that scores text: a folder or hub id that holds safetensors weights.

    `auto` means a GPU if there is one, and bfloat16 there if the weights are saved in it, else float32. `window` is the
    longest sequence in a forward pass; not given, the model's positions or `batch_tokens`, whichever is smaller.
    """

    path: InputPath
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_tokens: Annotated[int, Field(ge=2)] = 16_384
    window: Annotated[int, Field(ge=2)] | None = None
    trust_remote_code: bool = False


def local_folder(prior: Prior) -> Path:
    """The folder that holds `prior`, see `source.local_folder`."""
    return source.local_folder(
        prior.path, revision=prior.revision, key="prior.path", trust_remote_code=prior.trust_remote_code
    )


def device_of(prior: Prior) -> torch.device:
    """Where `prior` is to run.

    Raises:
        ConfigError: a GPU that is not there.
    """
    there = torch.cuda.is_available()
    if prior.device == "cuda" and not there:
        raise ConfigError("prior.device: 'cuda', and torch sees no GPU here. Set prior.device=cpu.")
    return torch.device("cuda" if there and prior.device != "cpu" else "cpu")


def load_network(prior: Prior, folder: Path) -> Any:
    """The model in `folder`, in evaluation mode, of the type and on the device that `prior` asks for.

    Raises:
        InputError: it cannot be read, or lacks weights of its architecture.
        ConfigError: a GPU that is not there.
    """
    device = device_of(prior)
    dtype = _DTYPES[prior.dtype] if prior.dtype != "auto" or device.type == "cuda" else torch.float32
    return source.load_network(folder, dtype=dtype, trust_remote_code=prior.trust_remote_code).to(device)


_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
