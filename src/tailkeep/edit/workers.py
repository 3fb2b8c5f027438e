"""Who edits shards: this process, processes of this machine, or whoever is handed in.

Rule: a worker that would write other bytes than the process that sends it shards refuses to begin.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tailkeep.data.corpus import (
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
from tailkeep.runs import RunRecord, versions
from tailkeep.scoring import prior_elsewhere

_PACKAGES = ("numpy", "pyarrow", "torch", "transformers", "tokenizers")


def sources_of(model: Model) -> dict[str, Any]:
    """What of a process decides what it writes, as parts of a run's sources."""
    return {"model": model.identity(), "packages": versions(*_PACKAGES)}


def elsewhere(config: EditConfig, record: RunRecord) -> EditConfig:
    """`config` for a worker in another process, with what `auto` and a relative path mean in this one."""
    prior = prior_elsewhere(config.prior, record.sources["model"]["prior"])
    weights = config.weights and config.weights.absolute()
    return config.model_copy(update={"prior": prior, "weights": weights})


def load_worker(config: EditConfig, out: str | Path, record: RunRecord) -> Callable[[Shard], Manifest]:
    """What a worker of its own process does with a shard; called there, once.

    Raises:
        InputError: the prior or the packages there are others than those of the run.
        TailkeepError: the prior or the output cannot be opened there.
    """
    model = load_model(config.prior)
    record.refuse_unequal(sources_of(model))
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
