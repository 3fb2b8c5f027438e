"""One audit, from files to files.

Rule: a shard is finished when its manifest says so; the summary is a function of what all of them have left.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tailkeep.audit.config import AuditConfig, checked_prior, dump, load
from tailkeep.audit.prior_scores import PriorScorer, prior_scorer_of
from tailkeep.audit.shard import ShardAuditor
from tailkeep.audit.summary import write_summary
from tailkeep.data.corpus import (
    Contents,
    Executor,
    Inline,
    LocalPool,
    Manifest,
    Observer,
    OutputRun,
    Rejects,
    Setup,
    Shard,
    ShardStorage,
    Task,
    check_executor_has_effect,
    check_layout_has_effect,
    check_output_outside_input,
    find_shards,
    fingerprint_of,
    finish_shard,
    finished,
    my_tasks,
    no_progress,
    open_destination,
    open_output_run,
    read_rejects,
    run_shards,
    total,
)
from tailkeep.errors import ConfigError, InputError
from tailkeep.runs import RunRecord, hash_tree, versions
from tailkeep.sanitize import redact

# Who audits shards. Rule: a worker that would write other bytes than whoever sends it shards refuses to begin.


def sources_of(config: AuditConfig, asker: PriorScorer | None) -> dict[str, Any]:
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


def config_for_worker(config: AuditConfig, record: RunRecord) -> AuditConfig:
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
    asker = prior_scorer_of(config)
    record.check_same_sources(sources_of(config, asker))
    return worker(asker, config, out, record)


def worker(
    asker: PriorScorer | None,
    config: AuditConfig,
    out: str | Path,
    record: RunRecord,
    storage: ShardStorage | None = None,
) -> Callable[[Shard], Manifest]:
    """What a worker does with a shard."""
    work = ShardAuditor(config, asker)
    destination = open_destination(out, storage=storage)

    def finish(shard: Shard) -> Manifest:
        return finish_shard(shard, work, destination, fingerprint=fingerprint_of(shard, record.sources))

    return finish


# The output of an audit.
#
#     run.json  config.yaml  manifests/  summary.json  tables/  lab/  report.html
#     counts/  types/  frequent/  copies/  sample/  near/  scores/  rejects/
#
# Rule: the first line is for people, the second is what shards leave, from which the first can be made again.


CONTENTS = Contents(("counts", "types", "frequent", "copies", "sample", "near", "scores", "rejects"))


# What an audit has found so far. Rule: the summary holds no path outside of the run and no moment in time.


@dataclass(frozen=True)
class AuditOutcome:
    """The totals of an audit's finished shards, and once all are, its summary.

    Attributes:
        fingerprint: of the run.
        shards: how many the run has, over all tasks.
        finished: how many of them are finished.
        counts: of the finished ones: documents, rejected, words.
        rejects: what the rejected documents say.
        summary: see `summary.json`; nothing before every shard is finished.
    """

    fingerprint: str
    shards: int
    finished: int
    counts: Mapping[str, int | float]
    rejects: Rejects = field(default_factory=Rejects)
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every shard is finished."""
        return self.finished == self.shards

    @property
    def rejected(self) -> int:
        """How many documents are rejected."""
        return int(self.counts.get("rejected", 0))

    @property
    def flagged(self) -> list[str]:
        """The statistics that passed their corrected level."""
        comparison = self.summary.get("comparison") or {"tests": []}
        return [test["name"] for test in comparison["tests"] if test["flagged"]]

    def text(self) -> str:
        """The content of `summary.json`."""
        tree = {"fingerprint": self.fingerprint, "shards": self.shards, **self.summary}
        return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def lines(self) -> list[str]:
        """The findings in words."""
        found = [f"{self.finished} of {self.shards} shards are finished"]
        if self.finished:
            count = {name: int(value) for name, value in self.counts.items()}
            found.append(
                f"documents: {count['documents']:,} read, {count['rejected']:,} rejected; {count['words']:,} words"
            )
        found += [
            f"{'[flagged] ' if finding['flagged'] else ''}{finding['sentence']}"
            for finding in self.summary.get("findings", ())
        ]
        for advice in self.summary.get("mixing", ()):
            weight = "" if advice["real_weight"] is None else f" (weight of real data {advice['real_weight']:.2f})"
            found.append(f"mixing: {advice['rule']}{weight}; {advice['source']}; under: {advice['assumes']}")
        if command := self.summary.get("lab_command"):
            found.append(f"to ask a model, in the output's folder: {command}")
        return found

    def warnings(self) -> list[str]:
        """What should be looked at."""
        return [f"{name} is torn: all behind the damage is lost. Copy the file again" for name in self.rejects.torn]


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
    observe: Observer = no_progress,
    storage: ShardStorage | None = None,
) -> AuditOutcome:
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
    check_executor_has_effect(workers, executor, storage)
    check_output_outside_input(out, (*given, *trusted))
    shards = _shards(config, given, trusted)
    mine = my_tasks(shards, task.index, task.count)
    asker = prior_scorer_of(config)
    record = _record(config, asker, shards)
    with open_output_run(out, record, config=dump(config), task=task, contents=CONTENTS, storage=storage) as opened:
        left = [shard for shard in mine if not _finished(shard, record, opened)]
        if executor is None and workers == 1:
            who: Executor = Inline()
            setup: Setup[Manifest] = partial(worker, asker, config, out, record, storage)
        else:
            # Workers load it themselves, and the memory may be too small for one more.
            asker = None
            who = executor or local_pool(config, workers)
            setup = partial(load_worker, config_for_worker(config, record), opened.root or out, record)
        run_shards(who, setup, left, observe, shards=len(mine), unit="words")
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
            check_layout_has_effect(config.layout, shards)
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


def _record(config: AuditConfig, asker: PriorScorer | None, shards: Sequence[Shard]) -> RunRecord:
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


def _finished(shard: Shard, record: RunRecord, opened: OutputRun) -> Manifest | None:
    return finished(shard, opened.destination, fingerprint=fingerprint_of(shard, record.sources))


def _concluded(
    config: AuditConfig, shards: Sequence[Shard], record: RunRecord, opened: OutputRun, asker: PriorScorer | None
) -> AuditOutcome:
    """The totals; with the last shard finished, the summary and the tables."""
    manifests = [manifest for shard in shards if (manifest := _finished(shard, record, opened))]
    rejects = read_rejects(manifests, opened)
    outcome = AuditOutcome(record.fingerprint, len(shards), len(manifests), total(manifests), rejects)
    if not outcome.complete:
        return outcome
    with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
        found = write_summary(config, manifests, lambda name: opened.local(name, Path(folder)), asker)
    for name, text in sorted(found.files.items()):
        opened.destination.write_text(name, text)
    whole = replace(outcome, summary=found.summary)
    opened.destination.write_text("summary.json", whole.text())
    return whole
