"""One edit of a corpus, from files to files.

Rule: a shard is finished when its manifest says so; what is left is done in any order, by any number of workers.
"""

import posixpath
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tailkeep.data.corpus import (
    Destination,
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
    my_tasks,
    nobody,
    open_run,
    read_rejects,
    refuse_equal_ids,
    refuse_idle_hands,
    refuse_idle_layout,
    refuse_inside,
    total,
)
from tailkeep.edit.config import EditConfig, dump, load
from tailkeep.edit.directory import CONTENTS
from tailkeep.edit.joining import finished_by, join_files
from tailkeep.edit.loading import Model, load_model
from tailkeep.edit.marks import NAME, Mark, refuse_edited, share_before
from tailkeep.edit.outcome import Outcome
from tailkeep.edit.token_input import refuse_foreign_ids
from tailkeep.edit.workers import elsewhere, load_worker, sources_of, worker
from tailkeep.runs import RunRecord, hash_path, hash_tree
from tailkeep.scoring import local_pool


def run(
    config: EditConfig | Mapping[str, Any] | Path,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    workers: int = 1,
    executor: Executor | None = None,
    task: Task | None = None,
    observe: Observer = nobody,
    storage: ShardStorage | None = None,
) -> Outcome:
    """Edit `inputs` into `out`, or finish the run that is there.

    Args:
        config: a configuration, or a mapping or YAML file of one.
        inputs: globs, folders or files, local or as fsspec URLs.
        out: a folder or a store.
        workers: processes of this machine that work on shards side by side; it changes no result.
        executor: who does the work instead, such as `tailkeep.integrations.ray.RayActors`; it changes no result.
        task: the share of the shards to work on; all if not given.
        observe: told of each finished shard.
        storage: where writes go; tests hand in faulty ones.

    Returns:
        The totals over all finished shards. If every one is, `summary.json` holds them.

    Raises:
        TailkeepError: bad input or configuration, an edited input, another fingerprint, a busy or a full disk.
    """
    config = config if isinstance(config, EditConfig) else load(config)
    task = task or Task()
    given = [str(inputs)] if isinstance(inputs, str | Path) else [str(item) for item in inputs]
    refuse_idle_hands(workers, executor, storage)
    refuse_inside(out, tuple(given))
    shards = find_shards(given, row_groups=config.row_groups)
    mine = my_tasks(shards, task.index, task.count)
    refuse_idle_layout(config.layout, shards)
    marks = refuse_edited(shards, anchors=config.anchors, force=config.force, among=mine)
    model = load_model(config.prior)
    refuse_foreign_ids(config, mine, model.surfaces)
    record = _record(config, model, shards, marks)
    with open_run(out, record, config=dump(config), task=task, contents=CONTENTS, storage=storage) as opened:
        with opened.alone():
            _begin_marks(shards, Mark(run=record.fingerprint), opened)
        left = [shard for shard in mine if not finished_by(shard, record, opened.destination)]
        if executor is None and workers == 1:
            who: Executor = Inline()
            setup: Setup[Manifest] = partial(worker, model, config, out, record, storage)
        else:
            # Workers load it themselves, and the memory may be too small for one more.
            del model
            who = executor or local_pool(config.prior, workers)
            setup = partial(load_worker, elsewhere(config, record), opened.root or out, record)
        drive(who, setup, left, observe, shards=len(mine), unit="tokens_read")
        with opened.alone():
            return _concluded(shards, record, opened, share_before(marks))


def _record(config: EditConfig, model: Model, shards: Sequence[Shard], marks: Mapping[str, Mark]) -> RunRecord:
    weights = {} if config.weights is None else {"weights": hash_path(config.weights / "weights")}
    sources = {
        "config": config.deciding(),
        **sources_of(model),
        **weights,
        "input": {
            "shards": len(shards),
            "bytes": sum(shard.size for shard in shards),
            "hash": hash_tree({shard.key: shard.sources() for shard in shards}),
            "edited": {name: mark.model_dump() for name, mark in sorted(marks.items())},
        },
    }
    return RunRecord.of("edit", sources, versions=sources["packages"], seeds=(config.seed,))


def _concluded(shards: Sequence[Shard], record: RunRecord, opened: OpenRun, changed_before: float | None) -> Outcome:
    """The totals; with the last shard finished, the checks that need all of them, and what is written last."""
    destination = opened.destination
    found = [manifest for shard in shards if (manifest := finished_by(shard, record, destination))]
    # The manifest of a file tells of all its parts.
    manifests = list({manifest.shard: manifest for manifest in found}.values())
    rejects = read_rejects(manifests, opened)
    outcome = Outcome(record.fingerprint, len(shards), len(found), total(manifests), changed_before, rejects)
    if not outcome.complete:
        return outcome
    counts = outcome.counts
    out = counts["written"] + counts["rejected"] + counts.get("left_out", 0)
    assert counts["documents"] == out, "documents in are documents out, rejects and those left out"
    _refuse_equal_ids(manifests, opened)
    join_files(shards, record, opened)
    _write_marks(shards, Mark(run=record.fingerprint, changed_share=outcome.cumulative_share), destination)
    destination.write_text("summary.json", outcome.summary())
    return outcome


def _refuse_equal_ids(manifests: Sequence[Manifest], opened: OpenRun) -> None:
    lists = [name for manifest in manifests for name in manifest.outputs if name.startswith("ids/")]
    with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
        files = {name: opened.local(name, Path(folder)) for name in lists}
        refuse_equal_ids({name[len("ids/") : -len(".ids")]: file for name, file in files.items()})


def _begin_marks(shards: Sequence[Shard], mark: Mark, opened: OpenRun) -> None:
    """Write marks where there are none of this run; one that is there may already tell the changed share."""
    names = _mark_names(shards)
    for name in names:
        there = opened.destination.read_text(name)
        if there is None or mark.run not in there:
            opened.destination.write_text(name, mark.text())


def _write_marks(shards: Sequence[Shard], mark: Mark, destination: Destination) -> None:
    for name in _mark_names(shards):
        if destination.read_text(name) != mark.text():
            destination.write_text(name, mark.text())


def _mark_names(shards: Sequence[Shard]) -> list[str]:
    return sorted({f"{posixpath.dirname(f'documents/{shard.name}')}/{NAME}" for shard in shards})
