"""One audit, from files to files.

Rule: a shard is finished when its manifest says so; the summary is a function of what all of them have left.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tailkeep.audit.asking import Asker, asker_of
from tailkeep.audit.concluding import conclude
from tailkeep.audit.config import AuditConfig, dump, load
from tailkeep.audit.directory import CONTENTS
from tailkeep.audit.outcome import Outcome
from tailkeep.audit.workers import elsewhere, load_worker, local_pool, sources_of, worker
from tailkeep.data.corpus import (
    Executor,
    Inline,
    Manifest,
    Observer,
    OpenRun,
    Setup,
    Shard,
    ShardStorage,
    Task,
    drive,
    find_shards,
    fingerprint_of,
    finished,
    my_tasks,
    nobody,
    open_run,
    read_rejects,
    refuse_idle_hands,
    refuse_idle_layout,
    refuse_inside,
    total,
)
from tailkeep.errors import ConfigError, InputError
from tailkeep.redaction import redact
from tailkeep.runs import RunRecord, hash_tree

Inputs = str | Path | Sequence[str | Path]


def run(
    config: AuditConfig | Mapping[str, Any] | Path,
    inputs: Inputs,
    out: str | Path,
    *,
    against: Inputs = (),
    workers: int = 1,
    executor: Executor | None = None,
    task: Task | None = None,
    observe: Observer = nobody,
    storage: ShardStorage | None = None,
) -> Outcome:
    """Audit `inputs` into `out`, or finish the audit that is there.

    Args:
        config: a configuration, or a mapping or YAML file of one.
        inputs: globs, folders or files, local or as fsspec URLs.
        out: a folder or a store.
        against: trusted human text to compare with, in the same forms.
        workers: processes of this machine that work on shards side by side; it changes no result.
        executor: who does the work instead, such as `tailkeep.integrations.ray.RayActors`; it changes no result.
        task: the share of the shards to work on; all if not given.
        observe: told of each finished shard.
        storage: where writes go; tests hand in faulty ones.

    Returns:
        The totals over all finished shards. If every one is, `summary.json` and `tables/` hold what was found.

    Raises:
        TailkeepError: bad input or configuration, another fingerprint, a busy or a full disk.
    """
    config = config if isinstance(config, AuditConfig) else load(config)
    task = task or Task()
    given, trusted = _listed(inputs), _listed(against)
    refuse_idle_hands(workers, executor, storage)
    refuse_inside(out, (*given, *trusted))
    shards = _shards(config, given, trusted)
    mine = my_tasks(shards, task.index, task.count)
    asker = asker_of(config)
    record = _record(config, asker, shards)
    with open_run(out, record, config=dump(config), task=task, contents=CONTENTS, storage=storage) as opened:
        left = [shard for shard in mine if not _finished(shard, record, opened)]
        if executor is None and workers == 1:
            who: Executor = Inline()
            setup: Setup[Manifest] = partial(worker, asker, config, out, record, storage)
        else:
            # Workers load it themselves, and the memory may be too small for one more.
            asker = None
            who = executor or local_pool(config, workers)
            setup = partial(load_worker, elsewhere(config, record), opened.root or out, record)
        drive(who, setup, left, observe, shards=len(mine), unit="words")
        with opened.alone():
            return _concluded(config, shards, record, opened, asker)


def _listed(inputs: Inputs) -> list[str]:
    return [str(inputs)] if isinstance(inputs, str | Path) else [str(item) for item in inputs]


def _shards(config: AuditConfig, given: Sequence[str], trusted: Sequence[str]) -> list[Shard]:
    """The shards of both sides, named after their side."""
    found: list[Shard] = []
    urls: dict[str, str] = {}
    for side, inputs in (("input", given), ("against", trusted)):
        shards = find_shards(inputs, row_groups=config.row_groups) if inputs or side == "input" else []
        if shards:
            refuse_idle_layout(config.layout, shards)
        for shard in shards:
            if urls.setdefault(shard.url, side) != side:
                raise InputError(
                    f"{redact(shard.url)} is both --input and --against, and a corpus cannot be compared with itself. "
                    "Give different files."
                )
        found += [replace(shard, name=f"{side}/{shard.name}") for shard in shards]
    if not trusted and {"testing"} & config.model_fields_set:
        raise ConfigError("testing does nothing without --against. Give a reference, or leave it out.")
    return found


def _record(config: AuditConfig, asker: Asker | None, shards: Sequence[Shard]) -> RunRecord:
    sources = {
        "config": config.deciding(),
        **sources_of(config, asker),
        "input": {
            "shards": len(shards),
            "bytes": sum(shard.size for shard in shards),
            "hash": hash_tree({shard.key: shard.sources() for shard in shards}),
        },
    }
    return RunRecord.of("audit", sources, versions=sources["packages"], seeds=(config.seed,))


def _finished(shard: Shard, record: RunRecord, opened: OpenRun) -> Manifest | None:
    return finished(shard, opened.destination, fingerprint=fingerprint_of(shard, record.sources))


def _concluded(
    config: AuditConfig, shards: Sequence[Shard], record: RunRecord, opened: OpenRun, asker: Asker | None
) -> Outcome:
    """The totals; with the last shard finished, the summary and the tables."""
    manifests = [manifest for shard in shards if (manifest := _finished(shard, record, opened))]
    rejects = read_rejects(manifests, opened)
    outcome = Outcome(record.fingerprint, len(shards), len(manifests), total(manifests), rejects)
    if not outcome.complete:
        return outcome
    with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
        found = conclude(config, manifests, lambda name: opened.local(name, Path(folder)), asker)
    for name, text in sorted(found.files.items()):
        opened.destination.write_text(name, text)
    whole = replace(outcome, summary=found.summary)
    opened.destination.write_text("summary.json", whole.text())
    return whole
