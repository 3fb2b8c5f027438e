"""The config of a prior, and its devices. Rule: every model is loaded by `scoring.loading`, in one way."""

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

_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
_GPUS = "CUDA_VISIBLE_DEVICES"


class Prior(Settings):
    """A causal language model that scores text: a folder or hub id with safetensors weights, or a GGUF file.

    `device: auto` means a GPU if one is available. `dtype: auto` means bfloat16 if the weights are saved in it and the
    device multiplies in it natively, else float32. `window` is the longest sequence of a forward pass; by default the
    model's positions or `batch_tokens`, whichever is smaller.

    Attributes:
        path: the folder, hub id or GGUF file.
        revision: the branch, tag or commit on the hub.
        trust_remote_code: run Python code that comes with the model: only for models whose code you have read.
    """

    path: InputPath
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_tokens: Annotated[int, Field(ge=2)] = 16_384
    window: Annotated[int, Field(ge=2)] | None = None
    trust_remote_code: bool = False


def device_of(prior: Prior) -> torch.device:
    """The device on which `prior` runs.

    Raises:
        ConfigError: `cuda` without a GPU.
    """
    if prior.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("prior.device: 'cuda', but torch sees no GPU. Set prior.device=cpu.")
    return torch.device("cuda" if uses_gpu(prior) else "cpu")


def load_network(prior: Prior, folder: Path) -> Any:
    """The model in `folder`, in evaluation mode, with the dtype and on the device of `prior`.

    Raises:
        InputError: it cannot be read, or lacks weights of its architecture.
        ConfigError: `cuda` without a GPU.
    """
    device = device_of(prior)
    dtype = _DTYPES[prior.dtype]
    if prior.dtype == "auto" and device.type == "cpu" and not has_native_bfloat16("cpu"):
        dtype = torch.float32
    return loading.load_network(folder, dtype=dtype, trust_remote_code=prior.trust_remote_code).to(device)


def has_native_bfloat16(device: str) -> bool:
    """Whether `device`, `cpu` or `cuda`, multiplies matrices in bfloat16; processors with AVX512-BF16 or AMX do."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def uses_gpu(prior: Prior) -> bool:
    """Whether `prior` runs on a GPU: its config allows it, and one is available."""
    return prior.device != "cpu" and torch.cuda.is_available()


def local_pool(prior: Prior, workers: int) -> LocalPool:
    """Processes on this machine; if `prior` runs on GPUs, the processes take turns on them."""
    if not uses_gpu(prior):
        return LocalPool(workers)
    visible = os.environ.get(_GPUS)
    gpus = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return LocalPool(workers, environments=[{_GPUS: gpus[number % len(gpus)]} for number in range(workers)])


def prior_for_worker(prior: Prior, identity: Mapping[str, Any]) -> Prior:
    """`prior` for another process: `auto` and a relative path resolved in this one; `identity` is its scorer's."""
    path = prior.path.absolute() if prior.path.exists() else prior.path
    return prior.model_copy(update={"device": identity["device"], "path": path})
