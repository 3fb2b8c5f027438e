"""Priors in several processes: who gets which GPU, and what a choice means elsewhere."""

import os
from collections.abc import Mapping
from typing import Any

import torch

from tailkeep.data.corpus import LocalPool
from tailkeep.scoring.prior import Prior

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


def prior_elsewhere(prior: Prior, identity: Mapping[str, Any]) -> Prior:
    """`prior` for another process, with what `auto` and a relative path mean in this one; `identity` of its scorer."""
    path = prior.path.absolute() if prior.path.exists() else prior.path
    return prior.model_copy(update={"device": identity["device"], "path": path})
