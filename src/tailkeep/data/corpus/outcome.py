"""The outcome of a run over shards, of one corpus or several sides: totals, summary, and what the user should look at.

Rule: the name of a shard begins with its side, and no file belongs to two sides.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tailkeep.data.corpus.output_run import Rejects
from tailkeep.data.corpus.schema import Layout
from tailkeep.data.corpus.shard_io import EMPTY, check_layout_has_effect
from tailkeep.data.corpus.shards import Shard, ShardList, find_shards
from tailkeep.errors import InputError
from tailkeep.runs import sealed_text
from tailkeep.sanitize import redact


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
        return [*lines, *ignored_lines(self.ignored)]

    def warnings(self) -> list[str]:
        """Sentences about what the user should look at."""
        warnings = [f"{name} is torn: nothing after the damage was read, see its rejects" for name in self.rejects.torn]
        if self.damaged:
            warnings.append(
                f"{len(self.damaged):,} finished shards had other bytes than their manifests record and were made "
                f"again, such as {self.damaged[0]}. Check the disk"
            )
        return warnings


@dataclass(frozen=True)
class CorpusSide:
    """One corpus of a run: the `name` with which its shards begin, what errors call it, and its paths."""

    name: str
    label: str
    paths: Sequence[str]


def find_sides(sides: Iterable[CorpusSide], layout: Layout, *, row_groups: int | None, reason: str) -> ShardList:
    """The shards of all `sides`, side by side; `reason` is the sentence that says why no file may be of two of them.

    Raises:
        InputError: a file is of two sides, or as `find_shards`.
        ConfigError: a key of `layout` has no effect on any side.
    """
    all_shards, unnamed = ShardList([], {}), list[Shard]()
    labels: dict[str, str] = {}
    for side in sides:
        shards = find_shards(side.paths, layout, row_groups=row_groups)
        unnamed += shards
        for shard in shards:
            if labels.setdefault(shard.url, side.label) != side.label:
                raise InputError(
                    f"{redact(shard.url)} is both {labels[shard.url]} and {side.label}. {reason} Give different files."
                )
        all_shards += [replace(shard, name=f"{side.name}/{shard.name}") for shard in shards]
        all_shards.ignored += shards.ignored
    check_layout_has_effect(layout, unnamed, row_groups=row_groups)
    return all_shards


def ignored_lines(ignored: Mapping[str, int]) -> list[str]:
    """How many files are no data, by kind, in one sentence, or in none."""
    counted = ", ".join(f"{count:,} {kind}" for kind, count in sorted(ignored.items()))
    return [f"ignored files: {counted}"] if counted else []


@dataclass(frozen=True)
class SummaryOutcome(RunOutcome):
    """The totals over the finished shards of a run that counts words: `counts` are documents, rejected and words.

    Attributes:
        summary: the content of `summary.json`, which holds no path outside of the run and no time; empty until every
            shard is finished.
    """

    summary: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """The content of `summary.json`."""
        tree = {"fingerprint": self.fingerprint, "shards": self.shards, **self.summary}
        return sealed_text(tree)

    def lines(self) -> list[str]:
        """The totals, one sentence per line."""
        lines = super().lines()
        if self.finished:
            count = {name: int(value) for name, value in self.counts.items()}
            side = self.summary.get("input", {"documents": count["documents"], "rejected": 0})
            of_input = side["documents"] + side["rejected"]
            others = f" ({of_input:,} of --input)" if of_input != count["documents"] else ""
            lines.append(
                f"documents: {count['documents']:,} read{others}, {count['rejected']:,} rejected; "
                f"{count['words']:,} words"
            )
        return lines
