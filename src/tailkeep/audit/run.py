"""One audit of a corpus: its shards are audited, small ones in bundles, and the last to finish writes the summary.

    run.json  config.yaml  manifests/  summary.json  tables/  lab/  report.html              for people
    counts/  types/  frequent/  duplicates/  sample/  share/  near_duplicates/  scores/  rejects/    per shard or bundle

Rule: the summary is a function of the files of shards and bundles alone. The job itself is in `data.corpus.job`.
"""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from tailkeep.audit.config import AuditConfig, load, validate_prior
from tailkeep.audit.findings import SECOND
from tailkeep.audit.prior_scores import PriorScorer, load_prior_scorer
from tailkeep.audit.shard import BundleAuditor
from tailkeep.audit.summary import AuditOutcome, summarize
from tailkeep.data.corpus import (
    BundleFunction,
    Contents,
    CorpusSide,
    Execution,
    Executor,
    Inputs,
    JobShards,
    LocalPool,
    Manifest,
    OutputRun,
    RunOutcome,
    Shard,
    ShardList,
    ShardStorage,
    Task,
    check_field_exists,
    find_sides,
    path_list,
    run_job,
)
from tailkeep.data.documents import FILE
from tailkeep.errors import ConfigError
from tailkeep.runs import ProgressObserver, RunRecord, no_progress, versions


def gpus_for(config: AuditConfig) -> int:
    """How many GPUs a worker needs: 1 for a prior on a GPU, else 0."""
    if config.prior is None:
        return 0
    from tailkeep.scoring import uses_gpu

    return int(uses_gpu(validate_prior(config.prior)))


@dataclass(frozen=True)
class _AuditJob:
    """What an audit adds to `run_job`; see `ShardJob`."""

    config: AuditConfig
    inputs: tuple[str, ...]
    reference: tuple[str, ...]
    synthetic: tuple[str, ...] = ()
    second: tuple[str, ...] = ()

    kind: ClassVar[str] = "audit"
    progress_unit: ClassVar[str] = "words"
    contents: ClassVar[Contents] = Contents(
        ("counts", "types", "frequent", "duplicates", "sample", "share", "near_duplicates", "scores", "rejects"),
        by_side=True,
    )

    @property
    def paths(self) -> tuple[str, ...]:
        return (*self.inputs, *self.reference, *self.synthetic, *self.second)

    def find_shards(self) -> ShardList:
        """The shards of all sides; the name of a shard begins with its side."""
        sides = [CorpusSide("input", "--input", self.inputs)]
        if self.reference:
            sides.append(CorpusSide("reference", "--reference", self.reference))
        if self.synthetic:
            sides.append(CorpusSide("synthetic", "--synthetic", self.synthetic))
        if self.second:
            sides.append(CorpusSide(SECOND, "--second-reference", self.second))
        reason = "A corpus cannot be compared with itself."
        shards = find_sides(sides, self.config.layout, row_groups=self.config.row_groups, reason=reason)
        if not self.reference and {"testing"} & self.config.model_fields_set:
            raise ConfigError("testing has no effect without --reference. Give a reference, or remove the key testing.")
        if not self.synthetic and {"share"} & self.config.model_fields_set:
            raise ConfigError(
                "share (--by) has no effect without --synthetic. Give text that models wrote, or remove the key share."
            )
        for option, paths in (("--synthetic", self.synthetic), ("--second-reference", self.second)):
            if paths and not self.reference:
                raise ConfigError(f"{option} has no effect without --reference. Give human text of the same kind too.")
        if self.config.mixing is not None and not self.reference:
            raise ConfigError(
                "mixing has no effect without --reference, since nothing is tested. Give one, or remove the key mixing."
            )
        if self.config.share.by not in (None, FILE):
            inputs = [shard for shard in shards if shard.name.startswith("input/")]
            check_field_exists("--by", self.config.share.by, self.config.layout, inputs)
        return shards

    def check_input(self, shards: Sequence[Shard], task_shards: Sequence[Shard]) -> dict[str, Any]:
        del shards, task_shards
        return {}

    def load_model(self, task_shards: Sequence[Shard] | None = None) -> PriorScorer | None:
        del task_shards
        return load_prior_scorer(self.config)

    def process_sources(self, model: PriorScorer | None) -> dict[str, Any]:
        packages = ["numpy", "scipy", "pyarrow"]
        packages += ["datasketch"] if self.config.near_duplicates else []
        packages += ["torch", "transformers", "tokenizers"] if model else []
        return {"model": model.identity() if model else None, "packages": versions(*packages)}

    def for_worker(self, record: RunRecord) -> "_AuditJob":
        if self.config.prior is None:
            return self
        from tailkeep.scoring import prior_for_worker

        prior = prior_for_worker(validate_prior(self.config.prior), record.sources["model"]["prior"])
        return replace(self, config=self.config.model_copy(update={"prior": prior.model_dump(mode="json")}))

    def local_pool(self, workers: int) -> Executor:
        if self.config.prior is None:
            return LocalPool(workers)
        from tailkeep.scoring import local_pool

        return local_pool(validate_prior(self.config.prior), workers)

    def bundle_function(self, model: PriorScorer | None, record: RunRecord) -> BundleFunction:
        del record
        return BundleAuditor(self.config, model, with_share=bool(self.synthetic))

    def prepare(self, work: JobShards, output: OutputRun) -> "_AuditJob":
        del work, output
        return self

    def begin(self, output: OutputRun) -> None:
        del output

    def conclude(
        self,
        totals: RunOutcome,
        shards: Sequence[Shard],
        manifests: Sequence[Manifest],
        output: OutputRun,
        model: PriorScorer | None,
    ) -> AuditOutcome:
        del shards
        outcome = AuditOutcome(**vars(totals))
        if not outcome.complete:
            return outcome
        with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
            local = partial(output.destination.local, folder=Path(folder))
            summary = summarize(self.config, manifests, local, model)
        for name, text in sorted(summary.files.items()):
            output.destination.write_texts({name: text})
        # The report checks the tables by it before it shows them.
        files = {name: hashlib.sha256(text.encode("utf-8")).hexdigest() for name, text in summary.files.items()}
        outcome = replace(outcome, summary={**summary.summary, "files": files})
        output.destination.write_texts({"summary.json": outcome.text()})
        return outcome


def run(
    config: AuditConfig | Mapping[str, Any] | Path,
    inputs: Inputs,
    out: str | Path,
    *,
    reference: Inputs = (),
    synthetic: Inputs = (),
    second_reference: Inputs = (),
    workers: int = 1,
    executor: Executor | None = None,
    task: Task | None = None,
    observe: ProgressObserver = no_progress,
    storage: ShardStorage | None = None,
    verify: bool = False,
) -> AuditOutcome:
    """Audit `inputs` into `out`, or resume the audit in `out`.

    Args:
        config: a configuration, or a mapping or YAML file that describes one.
        inputs: globs, folders or files, local or as fsspec URLs.
        out: a folder or the URL of a store.
        reference: trusted human text to compare with, in the same forms.
        synthetic: text that models wrote, of the kind to look for. With both references the share of the documents of
            `inputs` that are like it is estimated, or refused.
        second_reference: human text of another topic or genre: which differences of `inputs` does it share?
        workers: number of processes on this machine. It changes no result.
        executor: runs the shards instead, such as `tailkeep.integrations.ray.RayActors`. It changes no result.
        task: the share of the shards to work on; all of them by default.
        observe: called after each finished shard.
        storage: performs the writes; tests pass faulty ones.
        verify: check the sha256 of every finished output first; what is damaged is made again. It is also done once
            all shards are finished.

    Returns:
        The totals over all finished shards. Once every shard is finished, `summary.json` and `tables/` are written.

    Raises:
        TailkeepError: the input or configuration is bad, `out` holds another run or is busy, or the disk is full.
    """
    config = config if isinstance(config, AuditConfig) else load(config)
    execution = Execution(workers, executor, task, observe, storage, verify)
    sides = [path_list(paths) for paths in (inputs, reference, synthetic, second_reference)]
    return run_job(_AuditJob(config, *sides), out, execution)
