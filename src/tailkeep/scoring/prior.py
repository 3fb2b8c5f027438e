"""The choice of a prior, and how it is loaded. Rule: how is decided in `source`, for every model alike."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from tailkeep.config import InputPath, Settings
from tailkeep.data.corpus import LocalPool
from tailkeep.errors import ConfigError
from tailkeep.scoring import loading


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
    """The folder that holds `prior`, see `loading.local_folder`."""
    return loading.local_folder(
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
    return loading.load_network(folder, dtype=dtype, trust_remote_code=prior.trust_remote_code).to(device)


_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


# Priors in several processes: who gets which GPU, and what a choice means elsewhere.


_GPUS = "CUDA_VISIBLE_DEVICES"


def uses_gpu(prior: Prior) -> bool:
    """Whether `prior` works on a GPU: it is allowed to, and there is one."""
    return prior.device != "cpu" and torch.cuda.is_available()


def local_pool(prior: Prior, workers: int) -> LocalPool:
    """Processes on this machine; if GPUs do the work, each takes its own in turn."""
    if not uses_gpu(prior):
        return LocalPool(workers)
    named = os.environ.get(_GPUS)
    names = named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
    return LocalPool(workers, environments=[{_GPUS: names[number % len(names)]} for number in range(workers)])


def prior_for_worker(prior: Prior, identity: Mapping[str, Any]) -> Prior:
    """`prior` for another process, with what `auto` and a relative path mean in this one; `identity` of its scorer."""
    path = prior.path.absolute() if prior.path.exists() else prior.path
    return prior.model_copy(update={"device": identity["device"], "path": path})
