"""One audit of a corpus: its shards are audited one by one, and the last one to finish writes the summary.

    run.json  config.yaml  manifests/  summary.json  tables/  lab/  report.html              for people
    counts/  types/  frequent/  duplicates/  sample/  near_duplicates/  scores/  rejects/    per shard

Rules: a shard is finished when its manifest says so. The summary is a function of the per-shard files alone. A worker
whose prior or packages would write other bytes raises an error before its first shard.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tailkeep.audit.config import AuditConfig, dump, load, validate_prior
from tailkeep.audit.prior_scores import PriorScorer, load_prior_scorer
from tailkeep.audit.shard import ShardAuditor
from tailkeep.audit.summary import summarize
from tailkeep.data.corpus import (
    Contents,
    Destination,
    Executor,
    Inputs,
    LocalPool,
    Manifest,
    Observer,
    OutputRun,
    RunOutcome,
    Shard,
    ShardJob,
    ShardStorage,
    Task,
    absolute_output,
    check_layout_has_effect,
    check_output_outside_input,
    find_shards,
    fingerprint_of,
    finish_shard,
    inline_executor,
    input_sources,
    no_progress,
    open_destination,
    path_list,
    read_finished,
    run_job,
    shards_of_task,
    totals,
)
from tailkeep.errors import ConfigError, InputError
from tailkeep.runs import RunRecord, versions
from tailkeep.sanitize import redact


def sources_of(config: AuditConfig, scorer: PriorScorer | None) -> dict[str, Any]:
    """The prior and the packages of this process: the part of a run's sources that a worker must share."""
    packages = ["numpy", "scipy", "pyarrow"]
    packages += ["datasketch"] if config.near_duplicates else []
    packages += ["torch", "transformers", "tokenizers"] if scorer else []
    return {"model": scorer.identity() if scorer else None, "packages": versions(*packages)}


def local_pool(config: AuditConfig, workers: int) -> LocalPool:
    """A pool of processes on this machine. With a prior on GPUs each process takes one GPU."""
    if config.prior is None:
        return LocalPool(workers)
    from tailkeep.scoring import local_pool as pool_with_prior

    return pool_with_prior(validate_prior(config.prior), workers)


def gpus_for(config: AuditConfig) -> int:
    """How many GPUs a worker needs: 1 for a prior on a GPU, else 0."""
    if config.prior is None:
        return 0
    from tailkeep.scoring import uses_gpu

    return int(uses_gpu(validate_prior(config.prior)))


def config_for_worker(config: AuditConfig, record: RunRecord) -> AuditConfig:
    """`config` for a worker in another process: `auto` and relative paths are resolved in this one."""
    if config.prior is None:
        return config
    from tailkeep.scoring import prior_for_worker

    prior = prior_for_worker(validate_prior(config.prior), record.sources["model"]["prior"])
    return config.model_copy(update={"prior": prior.model_dump(mode="json")})


def load_worker(config: AuditConfig, out: str | Path, record: RunRecord) -> Callable[[Shard], Manifest]:
    """Load the prior in a worker process and return its shard function; called once per process.

    Raises:
        InputError: the worker's prior or packages differ from those of the run.
        TailkeepError: the worker cannot open the prior or the output.
    """
    scorer = load_prior_scorer(config)
    record.check_same_sources(sources_of(config, scorer))
    return worker(scorer, config, out, record)


def worker(
    scorer: PriorScorer | None,
    config: AuditConfig,
    out: str | Path,
    record: RunRecord,
    storage: ShardStorage | None = None,
) -> Callable[[Shard], Manifest]:
    """The function with which a worker audits and publishes one shard."""
    auditor = ShardAuditor(config, scorer)
    destination = open_destination(out, storage=storage)

    def finish(shard: Shard) -> Manifest:
        return finish_shard(shard, auditor, destination, fingerprint=fingerprint_of(shard, record.sources))

    return finish


CONTENTS = Contents(("counts", "types", "frequent", "duplicates", "sample", "near_duplicates", "scores", "rejects"))


@dataclass(frozen=True)
class AuditOutcome(RunOutcome):
    """The totals of an audit, and its summary once every shard is finished. It holds no outside path and no time.

    Attributes:
        summary: the content of `summary.json`; empty until every shard is finished.
    """

    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flagged(self) -> list[str]:
        """The names of the statistics that differ significantly after correction."""
        comparison = self.summary.get("comparison") or {"tests": []}
        return [test["name"] for test in comparison["tests"] if test["flagged"]]

    def text(self) -> str:
        """The content of `summary.json`."""
        tree = {"fingerprint": self.fingerprint, "shards": self.shards, **self.summary}
        return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def lines(self) -> list[str]:
        """The findings, one sentence per line."""
        lines = [f"{self.finished} of {self.shards} shards are finished"]
        if self.finished:
            count = {name: int(value) for name, value in self.counts.items()}
            lines.append(
                f"documents: {count['documents']:,} read, {count['rejected']:,} rejected; {count['words']:,} words"
            )
        lines += [
            f"{'[flagged] ' if finding['flagged'] else ''}{finding['sentence']}"
            for finding in self.summary.get("findings", ())
        ]
        for advice in self.summary.get("mixing", ()):
            weight = "" if advice["real_weight"] is None else f" (weight of real data {advice['real_weight']:.2f})"
            lines.append(f"mixing: {advice['rule']}{weight}; {advice['source']}; assumes: {advice['assumes']}")
        if command := self.summary.get("lab_command"):
            lines.append(f"to measure it with a model, run in the output folder: {command}")
        return lines

    def warnings(self) -> list[str]:
        """Sentences about damaged input."""
        return self.truncation_warnings()


def run(
    config: AuditConfig | Mapping[str, Any] | Path,
    inputs: Inputs,
    out: str | Path,
    *,
    reference: Inputs = (),
    workers: int = 1,
    executor: Executor | None = None,
    task: Task | None = None,
    observe: Observer = no_progress,
    storage: ShardStorage | None = None,
) -> AuditOutcome:
    """Audit `inputs` into `out`, or resume the audit in `out`.

    Args:
        config: a configuration, or a mapping or YAML file that describes one.
        inputs: globs, folders or files, local or as fsspec URLs.
        out: a folder or the URL of a store.
        reference: trusted human text to compare with, in the same forms.
        workers: number of processes on this machine. It changes no result.
        executor: runs the shards instead, such as `tailkeep.integrations.ray.RayActors`. It changes no result.
        task: the share of the shards to work on; all of them by default.
        observe: called after each finished shard.
        storage: performs the writes; tests pass faulty ones.

    Returns:
        The totals over all finished shards. Once every shard is finished, `summary.json` and `tables/` are written.

    Raises:
        TailkeepError: the input or configuration is bad, `out` holds another run or is busy, or the disk is full.
    """
    config = config if isinstance(config, AuditConfig) else load(config)
    task = task or Task()
    input_paths, reference_paths = path_list(inputs), path_list(reference)
    inline = inline_executor(workers, executor, storage)
    check_output_outside_input(out, (*input_paths, *reference_paths))
    shards = _find_shards(config, input_paths, reference_paths)
    shards_of_task(shards, task)  # refuses a task that does not exist before the prior is loaded
    scorer = load_prior_scorer(config)
    record = _record(config, scorer, shards)
    if inline:
        setup = partial(worker, scorer, config, out, record, storage)
    else:
        # Each worker loads its own prior; memory may not hold another one here.
        scorer = None
        setup = partial(load_worker, config_for_worker(config, record), absolute_output(out), record)
    job = ShardJob(
        record=record,
        config=dump(config),
        contents=CONTENTS,
        shards=shards,
        executor=inline or executor or local_pool(config, workers),
        setup=setup,
        finished_manifest=partial(_finished_manifest, record=record),
        conclude=partial(_conclude, config, shards, record, scorer),
        unit="words",
    )
    return run_job(job, out, task=task, observe=observe, storage=storage)


def _find_shards(config: AuditConfig, input_paths: Sequence[str], reference_paths: Sequence[str]) -> list[Shard]:
    """The shards of both sides; the name of a shard begins with its side."""
    all_shards: list[Shard] = []
    urls: dict[str, str] = {}
    for side, paths in (("input", input_paths), ("reference", reference_paths)):
        shards = find_shards(paths, row_groups=config.row_groups) if paths or side == "input" else []
        if shards:
            check_layout_has_effect(config.layout, shards)
        for shard in shards:
            if urls.setdefault(shard.url, side) != side:
                raise InputError(
                    f"{redact(shard.url)} is both --input and --reference. A corpus cannot be compared with itself. "
                    "Give different files."
                )
        all_shards += [replace(shard, name=f"{side}/{shard.name}") for shard in shards]
    if not reference_paths and {"testing"} & config.model_fields_set:
        raise ConfigError("testing has no effect without --reference. Give a reference, or remove the key testing.")
    return all_shards


def _record(config: AuditConfig, scorer: PriorScorer | None, shards: Sequence[Shard]) -> RunRecord:
    sources = {"config": config.fingerprint_tree(), **sources_of(config, scorer), "input": input_sources(shards)}
    return RunRecord.of("audit", sources, versions=sources["packages"], seeds=(config.seed,))


def _finished_manifest(shard: Shard, destination: Destination, *, record: RunRecord) -> Manifest | None:
    return read_finished(shard, destination, fingerprint=fingerprint_of(shard, record.sources))


def _conclude(
    config: AuditConfig,
    shards: Sequence[Shard],
    record: RunRecord,
    scorer: PriorScorer | None,
    finished: Mapping[str, Manifest],
    output: OutputRun,
) -> AuditOutcome:
    """The totals. Once every shard is finished, write the summary and the tables."""
    outcome = AuditOutcome(**totals(record, shards, finished, output))
    if not outcome.complete:
        return outcome
    with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
        manifests = list(finished.values())
        summary = summarize(config, manifests, lambda name: output.local(name, Path(folder)), scorer)
    for name, text in sorted(summary.files.items()):
        output.destination.write_text(name, text)
    outcome = replace(outcome, summary=summary.summary)
    output.destination.write_text("summary.json", outcome.text())
    return outcome
