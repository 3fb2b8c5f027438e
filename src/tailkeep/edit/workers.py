"""Who edits shards: this process, processes of this machine, or whoever is handed in.

Rule: a worker that would write other bytes than the process that sends it shards refuses to begin.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tailkeep.data.corpus import (
    LocalPool,
    Manifest,
    Shard,
    ShardStorage,
    fingerprint_of,
    finish_shard,
    open_destination,
)
from tailkeep.edit.config import EditConfig
from tailkeep.edit.failures import told
from tailkeep.edit.loading import Model, load_model
from tailkeep.edit.marks import Mark
from tailkeep.edit.shard_work import ShardWork
from tailkeep.errors import InputError
from tailkeep.runs import RunRecord, differences, versions

_PACKAGES = ("numpy", "pyarrow", "torch", "transformers", "tokenizers")
_GPUS = "CUDA_VISIBLE_DEVICES"


def uses_gpu(config: EditConfig) -> bool:
    """Whether the prior works on a GPU: it is allowed to, and there is one."""
    return config.prior.device != "cpu" and torch.cuda.is_available()


def local_pool(config: EditConfig, workers: int) -> LocalPool:
    """Processes on this machine; if GPUs do the work, each takes its own in turn."""
    if not uses_gpu(config):
        return LocalPool(workers)
    named = os.environ.get(_GPUS)
    names = named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
    return LocalPool(workers, environments=[{_GPUS: names[number % len(names)]} for number in range(workers)])


def sources_of(model: Model) -> dict[str, Any]:
    """What of a process decides what it writes, as parts of a run's sources."""
    return {"model": model.identity(), "packages": versions(*_PACKAGES)}


def elsewhere(config: EditConfig, record: RunRecord) -> EditConfig:
    """`config` for a worker in another process, with what `auto` and a relative path mean in this one."""
    prior, device = config.prior, record.sources["model"]["prior"]["device"]
    path = prior.path.absolute() if prior.path.exists() else prior.path
    return config.model_copy(update={"prior": prior.model_copy(update={"device": device, "path": path})})


def load_worker(config: EditConfig, out: str | Path, record: RunRecord) -> Callable[[Shard], Manifest]:
    """What a worker of its own process does with a shard; called there, once.

    Raises:
        InputError: the prior or the packages there are others than those of the run.
        TailkeepError: the prior or the output cannot be opened there.
    """
    model = load_model(config.prior)
    _refuse_other(record.sources, sources_of(model))
    return worker(model, config, out, record)


def worker(
    model: Model, config: EditConfig, out: str | Path, record: RunRecord, storage: ShardStorage | None = None
) -> Callable[[Shard], Manifest]:
    """What a worker does with a shard."""
    work = ShardWork(model, config, Mark(run=record.fingerprint).metadata())
    destination = open_destination(out, storage=storage)

    def finish(shard: Shard) -> Manifest:
        with told(shard, destination, run=record.fingerprint):
            return finish_shard(shard, work, destination, fingerprint=fingerprint_of(shard, record.sources))

    return finish


def _refuse_other(run: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    found = "; ".join(differences({key: run[key] for key in here}, here))
    if found:
        raise InputError(
            f"the worker on {os.uname().nodename} is not equipped as the run is: {found}. "
            "Give every machine the same packages and the same prior."
        )
