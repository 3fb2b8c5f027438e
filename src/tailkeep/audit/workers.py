"""Who audits shards. Rule: a worker that would write other bytes than whoever sends it shards refuses to begin."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tailkeep.audit.asking import Asker, asker_of
from tailkeep.audit.config import AuditConfig
from tailkeep.audit.prior import checked_prior
from tailkeep.audit.shard_work import ShardWork
from tailkeep.data.corpus import (
    LocalPool,
    Manifest,
    Shard,
    ShardStorage,
    fingerprint_of,
    finish_shard,
    open_destination,
)
from tailkeep.runs import RunRecord, versions


def sources_of(config: AuditConfig, asker: Asker | None) -> dict[str, Any]:
    """What of a process decides what it writes, as parts of a run's sources."""
    packages = ["numpy", "scipy", "pyarrow"]
    packages += ["datasketch"] if config.near_duplicates else []
    packages += ["torch", "transformers", "tokenizers"] if asker else []
    return {"model": asker.identity() if asker else None, "packages": versions(*packages)}


def local_pool(config: AuditConfig, workers: int) -> LocalPool:
    """Processes on this machine; with a prior on GPUs, each takes its own."""
    if config.prior is None:
        return LocalPool(workers)
    from tailkeep.scoring import local_pool as pool_with_prior

    return pool_with_prior(checked_prior(config.prior), workers)


def gpus_for(config: AuditConfig) -> int:
    """How many GPUs a worker wants."""
    if config.prior is None:
        return 0
    from tailkeep.scoring import uses_gpu

    return int(uses_gpu(checked_prior(config.prior)))


def elsewhere(config: AuditConfig, record: RunRecord) -> AuditConfig:
    """`config` for a worker in another process, with what `auto` and a relative path mean in this one."""
    if config.prior is None:
        return config
    from tailkeep.scoring import prior_elsewhere

    prior = prior_elsewhere(checked_prior(config.prior), record.sources["model"]["prior"])
    return config.model_copy(update={"prior": prior.model_dump(mode="json")})


def load_worker(config: AuditConfig, out: str | Path, record: RunRecord) -> Callable[[Shard], Manifest]:
    """What a worker of its own process does with a shard; called there, once.

    Raises:
        InputError: the prior or the packages there are others than those of the run.
        TailkeepError: the prior or the output cannot be opened there.
    """
    asker = asker_of(config)
    record.refuse_unequal(sources_of(config, asker))
    return worker(asker, config, out, record)


def worker(
    asker: Asker | None, config: AuditConfig, out: str | Path, record: RunRecord, storage: ShardStorage | None = None
) -> Callable[[Shard], Manifest]:
    """What a worker does with a shard."""
    work = ShardWork(config, asker)
    destination = open_destination(out, storage=storage)

    def finish(shard: Shard) -> Manifest:
        return finish_shard(shard, work, destination, fingerprint=fingerprint_of(shard, record.sources))

    return finish
