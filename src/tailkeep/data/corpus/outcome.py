"""The outcome of a run over shards: the totals over those that are finished, and what the user should look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tailkeep.data.corpus.output_run import Rejects
from tailkeep.data.corpus.shard_io import EMPTY


@dataclass(frozen=True)
class RunOutcome:
    """The totals over the finished shards of a run.

    Attributes:
        fingerprint: fingerprint of the run.
        shards: number of shards of the run, over all tasks.
        finished: number of finished shards.
        counts: sums of the counts in the manifests of the finished shards.
        rejects: the reasons of the rejected documents.
        ignored: how many files of the input are no data, by kind.
        damaged: the shards whose outputs had other bytes than recorded, and which this call made again.
    """

    fingerprint: str
    shards: int
    finished: int
    counts: Mapping[str, int | float]
    rejects: Rejects = field(default_factory=Rejects)
    ignored: Mapping[str, int] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every shard is finished."""
        return self.finished == self.shards

    @property
    def rejected(self) -> int:
        """The number of rejected documents."""
        return int(self.counts.get("rejected", 0))

    def lines(self) -> list[str]:
        """The totals, one sentence per line."""
        lines = [f"{self.finished} of {self.shards} shards are finished"]
        if empty := int(self.counts.get(EMPTY, 0)):
            lines.append(f"files without a document: {empty:,}")
        if self.ignored:
            counted = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.ignored.items()))
            lines.append(f"ignored files: {counted}")
        return lines

    def warnings(self) -> list[str]:
        """Sentences about what the user should look at."""
        warnings = [
            f"{name} is torn: everything after the damage is lost. Copy the file again" for name in self.rejects.torn
        ]
        if self.damaged:
            warnings.append(
                f"{len(self.damaged):,} finished shards had other bytes than their manifests record and were made "
                f"again, such as {self.damaged[0]}. Check the disk"
            )
        return warnings
