"""One forecast of a corpus: its shards are counted, small ones in bundles, and the last to finish writes the summary.

    run.json  config.yaml  manifests/  summary.json  tables/forecast.csv  report.html    for people
    items/  rejects/                                                                     per shard or bundle

Rule: the summary is a function of the files of shards and bundles alone. The job itself is in `data.corpus.job`.
"""

import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from tailkeep.config import suggest
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
    find_sides,
    path_list,
    run_job,
)
from tailkeep.errors import ConfigError, InputError
from tailkeep.forecast.config import ForecastConfig, load
from tailkeep.forecast.counts import CORPUS, BundleCounts
from tailkeep.forecast.summary import ForecastOutcome, summarize
from tailkeep.runs import ProgressObserver, RunRecord, no_progress, versions

_NAMED = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)=(.+)", re.DOTALL)
_UNNAMED = "synthetic"


@dataclass(frozen=True)
class _ForecastJob:
    """What a forecast adds to `run_job`; see `ShardJob`."""

    config: ForecastConfig
    sides: tuple[tuple[str, tuple[str, ...]], ...]

    kind: ClassVar[str] = "forecast"
    progress_unit: ClassVar[str] = "words"
    contents: ClassVar[Contents] = Contents(("items", "rejects"), by_side=True)

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for _, paths in self.sides for path in paths)

    def find_shards(self) -> ShardList:
        """The shards of all sides; the name of a shard begins with its side."""
        sides = [CorpusSide(name, name, paths) for name, paths in self.sides]
        reason = "A text says nothing beside itself."
        return find_sides(sides, self.config.layout, row_groups=self.config.row_groups, reason=reason)

    def check_input(self, shards: Sequence[Shard], task_shards: Sequence[Shard]) -> dict[str, Any]:
        del shards, task_shards
        return {}

    def load_model(self, task_shards: Sequence[Shard] | None = None) -> None:
        del task_shards

    def process_sources(self, model: None) -> dict[str, Any]:
        del model
        return {"packages": versions("numpy", "scipy", "pyarrow")}

    def for_worker(self, record: RunRecord) -> "_ForecastJob":
        del record
        return self

    def local_pool(self, workers: int) -> Executor:
        return LocalPool(workers)

    def bundle_function(self, model: None, record: RunRecord) -> BundleFunction:
        del model, record
        return BundleCounts(self.config)

    def prepare(self, work: JobShards, output: OutputRun) -> "_ForecastJob":
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
        model: None,
    ) -> ForecastOutcome:
        del shards, model
        outcome = ForecastOutcome(**vars(totals))
        if not outcome.complete:
            return outcome
        with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
            local = partial(output.destination.local, folder=Path(folder))
            try:
                summary, table = summarize(self.config, manifests, local)
            except InputError as error:
                raise InputError(
                    f"{error} What was counted stays in the output: remove it, or give another --out."
                ) from None
        output.destination.write_texts({"tables/forecast.csv": table})
        outcome = replace(outcome, summary=summary)
        output.destination.write_texts({"summary.json": outcome.text()})
        return outcome


def name_texts(synthetic: Sequence[str | Path]) -> dict[str, list[str]]:
    """Paths by the name of their text: `NAME=PATH`, or a path alone, whose text is called `synthetic`.

    A folder that has an equals sign in its name, such as Hive's `dt=2024`, is a path.

    Raises:
        ConfigError: a text has the name of the real one.
    """
    texts: dict[str, list[str]] = {}
    for item in map(str, synthetic):
        match = None if Path(item.split("/")[0]).exists() else _NAMED.fullmatch(item)
        name, path = match.groups() if match else (_UNNAMED, item)
        if name == CORPUS:
            raise ConfigError(f"--synthetic {item}: {CORPUS!r} is the name of the real text. Give another name.")
        texts.setdefault(name, []).append(path)
    return texts


def run(
    config: ForecastConfig | Mapping[str, Any] | Path,
    corpus: Inputs,
    out: str | Path,
    *,
    synthetic: Sequence[str | Path] = (),
    workers: int = 1,
    executor: Executor | None = None,
    task: Task | None = None,
    observe: ProgressObserver = no_progress,
    storage: ShardStorage | None = None,
    verify: bool = False,
) -> ForecastOutcome:
    """Forecast what of the tail of `corpus` is left, into `out`, or resume the forecast in `out`.

    Args:
        config: a configuration, or a mapping or YAML file that describes one.
        corpus: the real text: globs, folders or files, local or as fsspec URLs.
        out: a folder or the URL of a store.
        synthetic: text written by models that were trained on `corpus`, as `NAME=PATH` or as paths.
        workers: number of processes on this machine. It changes no result.
        executor: runs the shards instead. It changes no result.
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
    config = config if isinstance(config, ForecastConfig) else load(config)
    texts = name_texts(synthetic)
    _check_has_effect(config, texts)
    named = sorted(texts.items())
    sides = ((CORPUS, path_list(corpus)), *((name, tuple(paths)) for name, paths in named))
    return run_job(_ForecastJob(config, sides), out, Execution(workers, executor, task, observe, storage, verify))


def _check_has_effect(config: ForecastConfig, texts: Collection[str]) -> None:
    """Refuse keys that only synthetic `texts` read, if there are none, and a decoder of a text that is not there."""
    defaults = ForecastConfig()
    idle = [key for key in ("decoder", "decoders", "draws", "seed") if getattr(config, key) != getattr(defaults, key)]
    if idle and not texts:
        raise ConfigError(
            f"{idle[0]} has no effect without --synthetic. Give synthetic text, or remove the key {idle[0]}."
        )
    for name in config.decoders:
        if name not in texts:
            raise ConfigError(f"decoders.{name}: there is no such text.{suggest(name, sorted(texts))}")
