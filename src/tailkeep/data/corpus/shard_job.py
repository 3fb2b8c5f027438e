"""What a job over the shards of a corpus is made of: its config, the functions of its verb, and how it is executed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Self, TypeVar

from pydantic import Field

from tailkeep.config import Settings, dump_tree
from tailkeep.data.corpus.destination import ShardStorage
from tailkeep.data.corpus.executors import Executor
from tailkeep.data.corpus.large_files import PART_BYTES
from tailkeep.data.corpus.manifest import BundleFunction, Manifest
from tailkeep.data.corpus.outcome import RunOutcome
from tailkeep.data.corpus.output_run import Contents, OutputRun
from tailkeep.data.corpus.schema import Layout
from tailkeep.data.corpus.shards import Shard, ShardList, Task
from tailkeep.errors import ConfigError
from tailkeep.runs import ProgressObserver, RunRecord, no_progress

Inputs = str | Path | Sequence[str | Path]
Model = TypeVar("Model")
Outcome = TypeVar("Outcome", covariant=True)


class JobConfig(Settings):
    """The config of a job. A verb adds its own keys, `seed` among them, and, for a job with one, a `prior`.

    Attributes:
        layout: how documents lie in the files.
        part_bytes: work on a file of any format but parquet in parts of so many plain bytes, each up to the end of a
            document; the output is one file again.
        on_error: stop at a document that cannot be read, or reject it into `rejects/` and go on.
    """

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset()
    """The keys that decide whether a run goes on, never what a finished shard holds."""

    layout: Layout = Layout()
    part_bytes: Annotated[int, Field(ge=1)] = PART_BYTES

    def fingerprint_tree(self) -> dict[str, Any]:
        """The keys that can change an output, as plain values. The identity of the prior is recorded separately."""
        tree = self.model_dump(mode="json")
        # What they decide are the files and what each is, and those are in the fingerprint.
        del tree["layout"]["format"], tree["layout"]["ignore"]
        return {key: value for key, value in tree.items() if key not in {"prior", *self.not_fingerprinted}}


def dump_config(config: JobConfig) -> str:
    """`config` as YAML that can be loaded again."""
    tree = config.model_dump(mode="json")
    if tree["layout"]["chat"] is not None or tree["layout"]["token_field"] is not None:
        # Beside these the fields of text have no effect, and loading would raise an error.
        del tree["layout"]["text_fields"], tree["layout"]["prompt_fields"]
    return dump_tree(tree)


@dataclass(frozen=True)
class JobShards:
    """The shards of a run: `all` of them, those of the `task`, and the `remaining` ones, which this call makes.

    Among the remaining ones can be finished shards, which are made again with the others of their bundle.
    """

    all: Sequence[Shard]
    task: Sequence[Shard]
    remaining: Sequence[Shard]


class ShardJob(Protocol[Model, Outcome]):
    """What a verb such as edit or audit adds to `run_job`. Its `Model` is what all shards need, such as a prior."""

    kind: ClassVar[str]
    """The kind of the run in `run.json`."""
    contents: ClassVar[Contents]
    progress_unit: ClassVar[str]
    """The count of a manifest that progress adds up."""

    @property
    def config(self) -> JobConfig:
        """The config of the run."""

    @property
    def paths(self) -> tuple[str, ...]:
        """All inputs as the user wrote them."""

    def find_shards(self) -> ShardList:
        """The shards of the input, sorted. Checks that the layout fits them."""

    def check_input(self, shards: Sequence[Shard], task_shards: Sequence[Shard]) -> dict[str, Any]:
        """Check the input. Return what else decides the output, as parts of the sources of the run."""

    def load_model(self, task_shards: Sequence[Shard] | None = None) -> Model:
        """Load the model; called once per process. The process of the run gives the shards that the model must fit."""

    def process_sources(self, model: Model) -> dict[str, Any]:
        """The model and the packages of this process: the part of the sources that a worker must share."""

    def for_worker(self, record: RunRecord) -> Self:
        """The job for a worker in another process: `auto` and relative paths are resolved in this one. Picklable."""

    def local_pool(self, workers: int) -> Executor:
        """A pool of processes on this machine."""

    def bundle_function(self, model: Model, record: RunRecord) -> BundleFunction:
        """The function that makes the output of the shards of a bundle."""

    def prepare(self, work: JobShards, output: OutputRun) -> Self:
        """Check what needs more than one shard. Called again for finished shards that turn out to be damaged.

        Returns:
            The job with what the workers must know of the remaining shards.
        """

    def begin(self, output: OutputRun) -> None:
        """Write what stands in the output before its first shard."""

    def conclude(
        self,
        totals: RunOutcome,
        shards: Sequence[Shard],
        manifests: Sequence[Manifest],
        output: OutputRun,
        model: Model | None,
    ) -> Outcome:
        """The outcome. Once every shard is finished, check what needs all of them and write what comes last.

        `model` is None if only the workers loaded it.
        """


@dataclass(frozen=True)
class Execution:
    """How a run is executed. Nothing of it changes a result.

    Attributes:
        workers: number of processes on this machine.
        executor: runs the shards instead, such as `tailkeep.integrations.ray.RayActors`.
        task: the share of the shards to work on.
        observe: called after each finished shard, and inside long ones by executors that hear of it.
        storage: performs the writes; tests pass faulty ones.
        verify: check the sha256 of every finished output first; what is damaged is made again. Without it, this is
            done once all shards are finished, and before parts are joined.
    """

    workers: int = 1
    executor: Executor | None = None
    task: Task | None = None
    observe: ProgressObserver = no_progress
    storage: ShardStorage | None = None
    verify: bool = False

    @property
    def is_inline(self) -> bool:
        """Whether this process works on the shards itself."""
        return self.executor is None and self.workers == 1

    def check_has_effect(self) -> None:
        """Refuse choices of which one would do nothing beside the other.

        Raises:
            ConfigError: several workers and an executor, or a storage that neither would use.
        """
        if self.executor is not None and self.workers != 1:
            raise ConfigError(f"workers={self.workers}, but an executor brings its own workers. Give one of the two.")
        if self.storage is not None and not self.is_inline:
            raise ConfigError("storage works in this process only. Use workers=1 and no executor.")


def path_list(inputs: Inputs) -> tuple[str, ...]:
    """`inputs` as strings."""
    return (str(inputs),) if isinstance(inputs, str | Path) else tuple(str(item) for item in inputs)
